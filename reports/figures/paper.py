"""The set of figures that the paper's release points to, from whatever records there are: `python -m reports paper`.

Comparison, cost, sensitivity and allocation maps are those of the main report over the compared methods; here are the
four ablations: samples, budget, grouping, and the shape over the layers. What has no record says how to make it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from reports.analysis.groups import USUAL, Group, Row, unusual
from reports.analysis.summary import Summary, summarise
from reports.figures import style
from reports.figures.canvas import Rows, in_order, method_axis, new_figure, size
from reports.figures.heatmaps import maps, parse_block
from reports.figures.studies import overlap
from reports.figures.tradeoff import figures
from reports.render.notes import seeds_text
from reports.render.table import latex
from reports.render.tables import main_tables, paired_table
from reports.render.write import compare, replacing, write_figure, write_text
from results.table import markdown

ABLATED = "lora-smoe"
GROUPINGS = (ABLATED, "smoe-type", "smoe-global", "smoe-attention", "smoe-mlp")
ACCURACY = "Macro mean accuracy (%), ±1 st. error"
STUDIES = ("smoe-released", "smoe-type", "smoe-global", "smoe-attention", "smoe-mlp", "smoe-proportional")


@dataclass(frozen=True)
class Exhibit:
    """One numbered figure: its numbers, how to draw them, and the records behind it."""

    stem: str
    caption: str
    rows: Rows
    draw: Callable[[], Figure]
    records: tuple[str, ...] = field(default=())


def compared(group: Group) -> Group:
    """The group with one row a method, its ablations left out."""
    main = usual(group, {row.method for row in group.rows}.difference(STUDIES))
    return replace(main, rows=tuple(replace(row, label=_plain(row)) for row in main.rows))


def usual(group: Group, methods: Collection[str]) -> Group:
    """The group with the first row of each of `methods`, its own where that was run, and no ablation."""
    first = {row.method: row for row in reversed(group.rows)}
    return replace(
        group, rows=tuple(r for r in group.rows if r.method in methods and r is first[r.method]), ablations=()
    )


def exhibits(group: Group) -> tuple[list[Exhibit], list[str]]:
    """(figures that can be drawn, what is missing) of the set."""
    main = compared(group)
    mapped = maps(main)  # of each row's first seed
    drawn = {**figures(main), **mapped}
    found, missing = [], []
    wanted = {
        "accuracy-parameters": "accuracy against trainable parameters",
        "accuracy-memory": "accuracy against peak memory",
        "accuracy-time": "accuracy against wall-clock",
        "memory": "peak memory by phase",
        "time": "wall-clock by phase",
        f"sensitivity-{ABLATED}": "sensitivity of every block, by task",
        "experts": "experts of every block, by method",
    }
    for stem, caption in wanted.items():
        if stem in drawn:
            plotted, draw_it = drawn[stem]
            labels = {r.get("method", ABLATED) for r in plotted}  # sensitivity is of one method
            behind = [row for row in main.finished if row.label in labels]
            records = _keys([replace(row, done=row.done[:1]) for row in behind] if stem in mapped else behind)
            found.append(Exhibit(stem, caption, plotted, draw_it, records))
        else:
            missing.append(caption)
    for stem, caption, rows, draw in (
        ("samples", "samples that sensitivity is measured on", sample_rows(group.alike), draw_samples),
        ("budget", "budget: share of the blocks that pass for each task", budget_rows(group.alike), draw_budget),
        ("grouping", "blocks that are ranked against each other", grouping_rows(group.alike), draw_grouping),
        ("shape", "experts over the layers, beside MoLA's shapes", shape_rows(group.alike), draw_shape),
    ):
        if rows:
            labels = {r["method"] for r in rows}
            records = _keys([row for row in group.alike.whole.finished if row.label in labels])
            found.append(Exhibit(stem, caption, rows, lambda rows=rows, draw=draw: draw(rows), records))  # type: ignore[misc]
        else:
            missing.append(caption)
    return found, missing


def sample_rows(group: Group) -> Rows:
    """Accuracy of each size of probe, and how much of the largest one's allocation it finds."""
    rows: Rows = []
    for family in (ABLATED, "smoe-released"):
        own = [s for s in _scored(group) if s.row.method == family and (family != ABLATED or _budget_is_usual(s.row))]
        largest = max(own, key=_documents, default=None)
        for s in sorted(own, key=_documents):
            assert largest is not None  # own is not empty here
            rows.append(
                {
                    "method": s.row.label, "family": family, "documents": _documents(s), "samples_a_layer": _samples(s),
                    **_accuracy(s),
                    "overlap_with_largest": overlap(_experts(s.row), _experts(largest.row)),
                    "allocate_seconds": s.metrics["allocate_seconds"],
                }
            )  # fmt: skip
    return rows if len(rows) > 1 else []


def budget_rows(group: Group) -> Rows:
    """Accuracy and size at each budget, as the share of blocks that pass for each task."""
    rows: Rows = [
        {
            "method": s.row.label, "family": ABLATED,
            "passing": sum(_experts(s.row).values()) / len(_experts(s.row)) / len(group.tasks),
            "trainable_params": s.metrics["trainable_params"], **_accuracy(s),
        }
        for s in _scored(group)
        if s.row.method == ABLATED and _spec(s.row).probe_documents == USUAL[ABLATED]["probe_documents"]
    ]  # fmt: skip
    return sorted(rows, key=lambda r: r["passing"]) if len(rows) > 1 else []


def grouping_rows(group: Group) -> Rows:
    """Accuracy of LoRA-SMoE with each grouping of the blocks."""
    rows: Rows = [
        {
            "method": s.row.label, "family": s.row.method, "grouping": _spec(s.row).hyperparameters.get("grouping"),
            "experts": sum(_experts(s.row).values()), **_accuracy(s),
        }
        for s in _scored(usual(group, GROUPINGS))
    ]  # fmt: skip
    return rows if len(rows) > 1 else []


def shape_rows(group: Group) -> Rows:
    """Mean experts a block in each layer, and accuracy, of MoLA's shapes, LoRA-SMoE and MoLoRA."""
    own = [s for s in _scored(group) if s.row.method == "mola"]
    own += [s for s in _scored(usual(group, (ABLATED, "molora"))) if own]
    rows: Rows = []
    for s in own:
        layers: dict[int, list[int]] = {}
        for block, experts in _experts(s.row).items():
            layers.setdefault(parse_block(block)[0], []).append(experts)
        rows += [
            {
                "method": s.row.label, "family": s.row.method, "layer": layer,
                "experts_a_block": float(np.mean(counts)), **_accuracy(s),
            }
            for layer, counts in sorted(layers.items())
        ]  # fmt: skip
    return rows


def draw_samples(rows: Rows) -> Figure:
    """Accuracy on the left, overlap of the allocation with that of the largest probe on the right.

    Where a layer is scored on fewer samples than the probe has documents, the points say how many these are.
    """
    figure, axes = new_figure(7.4, 3.6, columns=2)
    for family in dict.fromkeys(r["family"] for r in rows):
        own = [r for r in rows if r["family"] == family]
        look, xs = style.look(family), [r["samples_a_layer"] for r in own]
        _errorbar(axes[0], xs, own, look, family)
        axes[1].plot(xs, [100 * r["overlap_with_largest"] for r in own], **look, markersize=6)
        for r in [r for r in own if r["documents"] != r["samples_a_layer"]]:
            for ax, y in zip(axes, (r["macro_accuracy"], r["overlap_with_largest"]), strict=True):
                ax.annotate(
                    f"{r['documents']:g} documents", (r["samples_a_layer"], 100 * y), xytext=(8, 4),
                    textcoords="offset points", fontsize=7.5,
                )  # fmt: skip
    for ax, label in zip(axes, (ACCURACY, "Overlap with the largest probe (%)"), strict=True):
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        ax.set_xlabel("Samples a layer and task")
        ax.set_ylabel(label)
    axes[1].set_ylim(0, 108)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle("Samples that sensitivity is measured on", x=0.01, ha="left", fontsize=10)
    return figure


def draw_budget(rows: Rows) -> Figure:
    """Accuracy against the share of blocks that pass; trainable parameters at each point."""
    figure, ax = new_figure(7.4, 3.9)
    look = style.look(ABLATED)
    _errorbar(ax, [100 * r["passing"] for r in rows], rows, look, ABLATED)
    for r in rows:
        if r["trainable_params"]:
            ax.annotate(
                f"{r['trainable_params'] / 1e6:.1f}M", (100 * r["passing"], 100 * r["macro_accuracy"]), xytext=(6, 5),
                textcoords="offset points", fontsize=7.5,
            )  # fmt: skip
    ax.set_xlabel("Blocks that pass for each task (%), on average; at the points: trainable parameters")
    ax.set_ylabel(ACCURACY)
    ax.set_title("Budget", loc="left")
    return figure


def draw_grouping(rows: Rows) -> Figure:
    """A point a grouping."""
    figure, ax = new_figure(7.4, 1.5 + 0.3 * len(rows))
    names = [f"{r['method']} ({r['grouping']})" for r in rows]
    for y, r in enumerate(rows):
        _point(ax, r, y, style.look(r["family"]))
    ax.set_xlabel(ACCURACY)
    method_axis(ax, names, "Blocks that are ranked against each other")
    return figure


def draw_shape(rows: Rows) -> Figure:
    """Experts by layer on the left, accuracy on the right."""
    figure, axes = new_figure(8.6, 3.9, columns=2)
    looks = style.looks({r["method"]: r["family"] for r in rows}.items())
    methods = in_order(rows)
    for method in methods:
        own = [r for r in rows if r["method"] == method]
        axes[0].plot(
            [r["layer"] for r in own], [r["experts_a_block"] for r in own], **looks[method], markersize=3.5,
            markevery=3, linewidth=1.2, label=method,
        )  # fmt: skip
        _point(axes[1], own[0], methods.index(method), looks[method])
    axes[0].set_xlabel("Layer")
    axes[0].set_ylabel("Experts a block, mean over the layer")
    axes[1].set_xlabel(ACCURACY)
    method_axis(axes[1], methods, "")
    figure.suptitle("Experts over the layers, beside MoLA's shapes", x=0.01, ha="left", fontsize=10)
    return figure


def draw_paper(groups: Sequence[Group], out: Path, images: bool = True) -> list[Path]:
    """Write the set of every group into a folder of its name below `out`, replacing it; return the folders."""
    out.mkdir(parents=True, exist_ok=True)
    for group in groups:
        with replacing(out / group.name) as fresh:
            _draw_group(group, fresh, images)
    return [out / group.name for group in groups]


def check_paper(groups: Sequence[Group], out: Path, images: bool = True) -> list[str]:
    """What differs between `out` and a redraw, one line a file; empty when nothing does. images: have to exist."""
    with tempfile.TemporaryDirectory() as temporary:
        fresh = Path(temporary) / "out"
        draw_paper(groups, fresh, images=False)
        return compare(fresh, out, images)


def _draw_group(group: Group, folder: Path, images: bool) -> None:
    found, missing = exhibits(group)
    main = compared(group)
    tables = [*main_tables(main), *paired_table(main)[0]]
    text = [f"# The paper's figures: {group.title}\n", *(markdown(table) for table in tables)]
    text.append(f"Records of these tables: {_listed(_keys(main.rows))}.\n")
    for i, table in enumerate(tables, 1):
        write_text(folder / f"table{i}.tex", latex(table, f"{group.name}-paper-{i}"))
    for number, one in enumerate(found, 1):
        write_figure(folder, one.stem, one.rows, one.draw if images else None)
        text.append(
            f"## Figure {number}: {one.caption}\n\n![{one.caption}]({one.stem}.png)\n\n"
            f"[numbers]({one.stem}.csv). {_seeds(one.rows)}Records: {_listed(one.records)}.\n"
        )
    if missing:
        lines = "\n".join(f"- {caption}" for caption in missing)
        text.append(
            f"## Not drawn: no record\n\n{lines}\n\n`python -m benchmarks.run --profile paper` makes these "
            "records, on the embedded model with `--model smollm2-135m`.\n"
        )
    write_text(folder / "paper.md", "\n".join(text))


def _seeds(rows: Rows) -> str:
    """Which seeds each point is a mean over, where the rows say so."""
    seeds = {r["method"]: r["of_seeds"].split() for r in rows if "of_seeds" in r}
    return f"Seeds: {seeds_text(seeds)}. " if seeds else ""


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys) or "none finished"


def _errorbar(ax: Axes, xs: Sequence[float], rows: Rows, look: dict[str, Any], label: str) -> None:
    ys = [100 * r["macro_accuracy"] for r in rows]
    errors = [100 * (r["stderr"] or 0.0) for r in rows]
    ax.errorbar(xs, ys, yerr=errors, **look, markersize=size(look, 7), capsize=2.5, linewidth=1.1, label=label)


def _point(ax: Axes, r: dict[str, Any], y: int, look: dict[str, Any]) -> None:
    ax.errorbar(
        100 * r["macro_accuracy"], y, xerr=100 * (r["stderr"] or 0.0), color=look["color"], marker=look["marker"],
        markersize=size(look, 7), capsize=2.5, linestyle="none", linewidth=1.1,
    )  # fmt: skip


def _scored(group: Group) -> list[Summary]:
    return [s for s in summarise(group.whole) if s.macro is not None and _experts(s.row)]


def _accuracy(s: Summary) -> dict[str, Any]:
    return {"macro_accuracy": s.macro, "stderr": s.macro_stderr, "of_seeds": " ".join(map(str, s.row.seeds))}


def _spec(row: Row) -> Any:
    return (row.done or row.failed)[0].spec


def _experts(row: Row) -> dict[str, int]:
    found = row.done[0].facts.get("experts") if row.done else None
    return dict(found) if isinstance(found, dict) else {}


def _documents(s: Summary) -> float:
    """Documents of a task in the probe."""
    probe = s.row.done[0].facts.get("probe_samples") or {}
    return float(np.mean(list(probe.values()))) if probe else float(_spec(s.row).probe_documents)


def _samples(s: Summary) -> float:
    """Samples of a task that scored each layer: all of the probe, or in mode "released" its share, at least one."""
    if _spec(s.row).hyperparameters.get("mode") != "released":
        return _documents(s)
    return max(1.0, _documents(s) / len({parse_block(block)[0] for block in _experts(s.row)}))


def _plain(row: Row) -> str:
    """The method's name alone for its own row: the other rows of the method are left out."""
    return row.label if unusual((row.done or row.failed)[0]) else row.method


def _budget_is_usual(row: Row) -> bool:
    settings = _spec(row).hyperparameters
    return settings.get("mean_experts") in (USUAL[ABLATED]["mean_experts"], None)


def _keys(rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(sorted(r.key for row in rows for r in row.done))
