"""The ablations of LoRA-SMoE: samples, budget, grouping, and the shape over the layers beside MoLA's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from reports import roster
from reports.analysis.groups import Group, Row
from reports.analysis.stability import overlap
from reports.analysis.summary import Summary
from reports.figures import style
from reports.figures.canvas import Rows, in_order, method_axis, new_figure, size
from results.names import place

OWN_SETTINGS = roster.entry(roster.SUBJECT).settings
ACCURACY = "Macro mean accuracy (%), ±1 st. error"


def usual(group: Group, methods: Collection[str]) -> Group:
    """Return the group with the first row of each of `methods`, its own where that was run, and no ablation."""
    first = {row.method: row for row in reversed(group.rows)}
    return replace(
        group, rows=tuple(r for r in group.rows if r.method in methods and r is first[r.method]), ablations=()
    )


def sample_rows(group: Group) -> Rows:
    """Accuracy of each size of probe, and how much of the largest one's allocation it finds."""
    rows: Rows = []
    for family in (roster.SUBJECT, "smoe-released"):
        sizes = [
            s
            for s in _scored(group)
            if s.row.method == family and (family != roster.SUBJECT or _budget_is_usual(s.row))
        ]
        largest = max(sizes, key=_documents, default=None)
        for s in sorted(sizes, key=_documents):
            assert largest is not None  # there is at least `s`
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
            "method": s.row.label, "family": roster.SUBJECT,
            "passing": sum(_experts(s.row).values()) / len(_experts(s.row)) / len(group.tasks),
            "trainable_params": s.metrics["trainable_params"], **_accuracy(s),
        }
        for s in _scored(group)
        if s.row.method == roster.SUBJECT and _spec(s.row).probe_documents == OWN_SETTINGS["probe_documents"]
    ]  # fmt: skip
    return sorted(rows, key=lambda r: r["passing"]) if len(rows) > 1 else []


def grouping_rows(group: Group) -> Rows:
    """Accuracy of LoRA-SMoE with each grouping of the blocks."""
    rows: Rows = [
        {
            "method": s.row.label, "family": s.row.method, "grouping": _spec(s.row).hyperparameters.get("grouping"),
            "experts": sum(_experts(s.row).values()), **_accuracy(s),
        }
        for s in _scored(usual(group, roster.groupings()))
    ]  # fmt: skip
    return rows if len(rows) > 1 else []


def shape_rows(group: Group) -> Rows:
    """Mean experts a block in each layer, and accuracy, of MoLA's shapes, LoRA-SMoE and MoLoRA."""
    shaped = [s for s in _scored(group) if s.row.method == "mola"]
    shaped += [s for s in _scored(usual(group, (roster.SUBJECT, "molora"))) if shaped]
    rows: Rows = []
    for s in shaped:
        by_layer = pd.Series(_experts(s.row)).groupby(lambda block: place(block)[0]).mean()
        rows += [
            {
                "method": s.row.label, "family": s.row.method, "layer": layer, "experts_a_block": experts,
                **_accuracy(s),
            }
            for layer, experts in by_layer.items()
        ]  # fmt: skip
    return rows


def draw_samples(rows: Rows) -> Figure:
    """Accuracy on the left, overlap of the allocation with that of the largest probe on the right.

    Where a layer is scored on fewer samples than the probe has documents, the points say how many these are.
    """
    figure, axes = new_figure(7.4, 3.6, columns=2)
    for family, sizes in pd.DataFrame(rows).groupby("family", sort=False):
        look = roster.look(str(family))
        _errorbar(axes[0], sizes["samples_a_layer"], sizes, look, str(family))
        axes[1].plot(sizes["samples_a_layer"], 100 * sizes["overlap_with_largest"], **look, markersize=6)
        for r in sizes[sizes["documents"] != sizes["samples_a_layer"]].itertuples():
            for ax, y in zip(axes, (r.macro_accuracy, r.overlap_with_largest), strict=True):
                ax.annotate(
                    f"{r.documents:g} documents", (r.samples_a_layer, 100 * y), xytext=(8, 4),
                    textcoords="offset points", fontsize=7.5,
                )  # fmt: skip
    for ax, label in zip(axes, (f"{ACCURACY};\n{_seeds(rows)}", "Overlap with the largest probe (%)"), strict=True):
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
    look = roster.look(roster.SUBJECT)
    budgets = pd.DataFrame(rows)
    _errorbar(ax, 100 * budgets["passing"], budgets, look, roster.SUBJECT)
    for r in budgets[budgets["trainable_params"] > 0].itertuples():
        ax.annotate(
            f"{r.trainable_params / 1e6:.1f}M", (100 * r.passing, 100 * r.macro_accuracy), xytext=(6, 5),
            textcoords="offset points", fontsize=7.5,
        )  # fmt: skip
    ax.set_xlabel("Blocks that pass for each task (%), on average; at the points: trainable parameters")
    ax.set_ylabel(f"{ACCURACY};\n{_seeds(rows)}")
    ax.set_title("Budget: how many blocks pass", loc="left")
    return figure


def draw_grouping(rows: Rows) -> Figure:
    """Draw a point a grouping."""
    figure, ax = new_figure(7.4, 1.5 + 0.3 * len(rows))
    names = [f"{r['method']} ({r['grouping']})" for r in rows]
    for y, r in enumerate(rows):
        _point(ax, r, y, roster.look(r["family"]))
    ax.set_xlabel(f"{ACCURACY};\n{_seeds(rows)}")
    method_axis(ax, names, "Blocks that are ranked against each other")
    return figure


def draw_shape(rows: Rows) -> Figure:
    """Experts by layer on the left, accuracy on the right."""
    figure, axes = new_figure(9.6, 4.6, columns=2)
    looks = style.looks({r["method"]: r["family"] for r in rows}.items())
    methods = in_order(rows)
    for y, (method, layers) in enumerate(pd.DataFrame(rows).groupby("method", sort=False)):
        axes[0].plot(
            layers["layer"], layers["experts_a_block"], **looks[str(method)], markersize=3.5, markevery=3,
            linewidth=1.2, label=method,
        )  # fmt: skip
        _point(axes[1], layers.iloc[0], y, looks[str(method)])
    axes[0].set_xlabel("Layer")
    axes[0].set_ylabel("Experts a block, mean over the layer")
    axes[1].set_xlabel(f"{ACCURACY};\n{_seeds(rows)}")
    method_axis(axes[1], methods, "")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle("Experts over the layers, beside MoLA's shapes", x=0.01, ha="left", fontsize=10)
    return figure


def _seeds(rows: Rows) -> str:
    """Which seeds the points are means over: those that all of them have, which may be fewer than in the main table."""
    seeds = sorted({r["of_seeds"].replace(" ", ", ") for r in rows})
    return f"{'seed' if seeds[0].isdigit() else 'seeds'} {' or '.join(seeds)}"


def _errorbar(ax: Axes, xs: pd.Series, points: pd.DataFrame, look: dict[str, Any], label: str) -> None:
    errors = 100 * points["stderr"].astype(float).fillna(0)
    ax.errorbar(
        xs,
        100 * points["macro_accuracy"],
        yerr=errors,
        **look,
        markersize=size(look, 7),
        capsize=2.5,
        linewidth=1.1,
        label=label,
    )


def _point(ax: Axes, r: Mapping[str, Any] | pd.Series, y: int, look: dict[str, Any]) -> None:
    ax.errorbar(
        100 * r["macro_accuracy"], y, xerr=100 * (r["stderr"] or 0.0), color=look["color"], marker=look["marker"],
        markersize=size(look, 7), capsize=2.5, linestyle="none", linewidth=1.1,
    )  # fmt: skip


def _scored(group: Group) -> list[Summary]:
    return [s for s in group.whole.summaries if s.macro is not None and _experts(s.row)]


def _accuracy(s: Summary) -> dict[str, Any]:
    return {"macro_accuracy": s.macro, "stderr": s.macro_stderr, "of_seeds": " ".join(map(str, s.row.seeds))}


def _spec(row: Row) -> Any:
    return (row.done or row.failed)[0].spec


def _experts(row: Row) -> dict[str, int]:
    experts = row.done[0].facts.get("experts") if row.done else None
    return dict(experts) if isinstance(experts, dict) else {}


def _documents(s: Summary) -> float:
    """Documents of a task in the probe."""
    probe = s.row.done[0].facts.get("probe_samples") or {}
    return float(np.mean(list(probe.values()))) if probe else float(_spec(s.row).probe_documents)


def _samples(s: Summary) -> float:
    """Return the samples of a task that scored each layer: all, or in mode "released" its share, at least one."""
    if _spec(s.row).hyperparameters.get("mode") != "released":
        return _documents(s)
    return max(1.0, _documents(s) / len({place(block)[0] for block in _experts(s.row)}))


def _budget_is_usual(row: Row) -> bool:
    settings = _spec(row).hyperparameters
    return settings.get("mean_experts") in (OWN_SETTINGS["mean_experts"], None)
