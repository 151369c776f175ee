"""The set of figures that the paper's release points to, from whatever records there are: `python -m reports paper`.

Comparison, cost, sensitivity and allocation maps are those of the main report over the compared methods; beside them
stand the four ablations (figures/studies.py). What has no record says how to make it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from reports import roster
from reports.analysis.groups import Group, Row, non_default_settings
from reports.analysis.notes import seeds_text
from reports.figures import studies
from reports.figures.canvas import Rows
from reports.figures.gallery import figures
from reports.figures.heatmaps import maps
from reports.figures.studies import usual
from reports.render.files import Images, compare, replacing, write_figure, write_text
from reports.render.table import latex
from reports.render.tables import captioned, main_tables, paired_table
from reports.render.templating import Raw, as_markdown, code

COMPARISON = {  # stem of a figure of the main report: its caption
    "accuracy-parameters": "accuracy against trainable parameters",
    "accuracy-memory": "accuracy against peak memory",
    "accuracy-time": "accuracy against wall-clock",
    "memory": "peak memory by phase",
    "time": "wall-clock by phase",
    f"sensitivity-{roster.SUBJECT}": "sensitivity of every block, by task",
    "experts": "experts of every block, by method",
}
ABLATIONS: dict[str, tuple[str, Callable[[Group], Rows], Callable[[Rows], Figure]]] = {
    "samples": ("samples that sensitivity is measured on", studies.sample_rows, studies.draw_samples),
    "budget": ("budget: share of the blocks that pass for each task", studies.budget_rows, studies.draw_budget),
    "grouping": ("blocks that are ranked against each other", studies.grouping_rows, studies.draw_grouping),
    "shape": ("experts over the layers, beside MoLA's shapes", studies.shape_rows, studies.draw_shape),
}


@dataclass(frozen=True)
class Exhibit:
    """One numbered figure: its numbers, how to draw them, and the records behind it."""

    stem: str
    caption: str
    rows: Rows
    draw: Callable[[], Figure]
    records: tuple[str, ...] = field(default=())
    in_main: bool = False  # the main report has this very figure


def compared(group: Group) -> Group:
    """Return the group with one row a method, its ablations left out."""
    main = usual(group, {row.method for row in group.rows}.difference(roster.names("variant")))
    return replace(main, rows=tuple(replace(row, label=_plain(row)) for row in main.rows))


def exhibits(group: Group) -> tuple[list[Exhibit], list[str]]:
    """(figures that can be drawn, captions of those without a record) of the set."""
    main, shown, missing = compared(group), [], []
    mapped = maps(main)  # of each row's first seed
    drawn, in_main = {**figures(main), **mapped}, {**figures(group), **maps(group)}
    for stem, caption in COMPARISON.items():
        if stem not in drawn:
            missing.append(caption)
            continue
        plotted, draw_it = drawn[stem]
        labels = {r.get("method", roster.SUBJECT) for r in plotted}  # sensitivity is of one method
        behind = [row for row in main.finished if row.label in labels]
        records = _keys([replace(row, done=row.done[:1]) for row in behind] if stem in mapped else behind)
        same = stem in in_main and in_main[stem][0] == plotted
        shown.append(Exhibit(stem, caption, plotted, draw_it, records, same))
    for stem, (caption, rows_of, draw) in ABLATIONS.items():
        if rows := rows_of(group.on_common_seeds):
            labels = {r["method"] for r in rows}
            records = _keys([row for row in group.on_common_seeds.whole.finished if row.label in labels])
            shown.append(Exhibit(stem, caption, rows, partial(draw, rows), records))
        else:
            missing.append(caption)
    return shown, missing


def draw_paper(
    groups: Sequence[Group], out: Path, images: Images = ("png",), main_report: str | None = None
) -> list[Path]:
    """Write the set of every group into a folder of its name below `out`, replacing it; return the folders.

    main_report: relative URL from `out` to the main report over the same groups, where there is one: figures that it
    has too are links into it and not drawn again.
    """
    out.mkdir(parents=True, exist_ok=True)
    for group in groups:
        with replacing(out / group.name) as fresh:
            _draw_group(group, fresh, images, main_report)
    return [out / group.name for group in groups]


def check_paper(groups: Sequence[Group], out: Path, images: bool = True, main_report: str | None = None) -> list[str]:
    """Compare `out` with a redraw: what differs, one line a file; empty when nothing does. images: have to exist."""
    with tempfile.TemporaryDirectory() as temporary:
        fresh = Path(temporary) / "out"
        draw_paper(groups, fresh, (), main_report)
        return compare(fresh, out, images)


def _draw_group(group: Group, folder: Path, images: Images, main_report: str | None) -> None:
    shown, missing = exhibits(group)
    main = compared(group)
    tables = [*main_tables(main), *paired_table(main)[0]]
    for i, table in enumerate(tables, 1):
        write_text(folder / f"table{i}.tex", latex(captioned(main, table), f"{group.name}-paper-{i}"))
    linked = {one.stem for one in shown if one.in_main and main_report is not None}
    for one in shown:
        if one.stem not in linked:
            write_figure(folder, one.stem, one.rows, one.draw, images)
    text = as_markdown(
        "paper.md.j2", group=group, tables=tables, keys=_keys(main.rows), exhibits=shown, missing=missing,
        places={one.stem: f"../{main_report}/{group.name}/" if one.stem in linked else "" for one in shown},
        seeds=_seeds, listed=_listed,
    )  # fmt: skip
    write_text(folder / "paper.md", text)


def _seeds(rows: Rows) -> str:
    """Which seeds each point is a mean over, where the rows say so."""
    seeds = {r["method"]: r["of_seeds"].split() for r in rows if "of_seeds" in r}
    return f"Seeds: {seeds_text(seeds)}. " if seeds else ""


def _listed(keys: Sequence[str]) -> Raw:
    return Raw(", ".join(map(code, keys)) or "none finished")


def _plain(row: Row) -> str:
    """Return the method's name alone for its own row: the other rows of the method are left out."""
    return row.label if non_default_settings((row.done or row.failed)[0]) else row.method


def _keys(rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(sorted(r.key for row in rows for r in row.done))
