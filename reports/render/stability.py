"""The page of the stability measurements: how much of an allocation survives another draw of the samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from reports.analysis.stability import answers, between_frame, stability_frame
from reports.figures.stability import draw_stability
from reports.render.files import Images, write_figure, write_text
from reports.render.templating import as_markdown
from results.studies import stability as asked
from results.studies.stability import Stability
from results.table import NOTHING, Table


def write_stability(measured: Sequence[Stability], folder: Path, images: Images) -> None:
    """Into `folder`: a table, its figure, the plotted numbers, and the measurements they are from."""
    pairs = stability_frame(measured)
    title = "Allocation stability: " + ", ".join(sorted({f"{m.suite}, {m.model.rsplit('/', 1)[-1]}" for m in measured}))
    folder.mkdir(exist_ok=True)
    write_figure(folder, "stability", pairs, lambda: draw_stability(pairs, title), images)
    between = between_table(between_frame(measured)) if len(measured) > 1 else None
    text = as_markdown(
        "stability.md.j2", title=title, table=stability_table(pairs, ""), between=between, measured=measured,
        answers=answers(pairs), asked=asked,
    )  # fmt: skip
    write_text(folder / "stability.md", text)


def stability_table(pairs: pd.DataFrame, title: str) -> Table:
    """Means over pairs, in percent; a row a method, kind and number of samples."""
    cells = []
    for (method, kind, samples), part in pairs.groupby(["method", "kind", "samples"], sort=False):
        rhos = part["rank_correlation"].dropna()
        cells.append(
            (
                method,
                kind,
                str(samples),
                str(len(part)),
                _mean_and_range(100 * part["overlap"], ".1f"),
                f"{100 * part['chance'].mean():.1f}",
                _mean_and_range(rhos, "z.2f") if len(rhos) else NOTHING,
            )
        )
    columns = ("Method", "Compared with", "Samples a task", "Pairs", "Overlap (%)", "By chance (%)", "Rank correlation")
    notes = (
        "Mean over pairs, smallest and largest in brackets. Overlap: share of experts that two allocations put into "
        "the same blocks; by chance: both histograms dealt to the blocks at random. Another draw: other documents, as "
        "many. Smaller probe: against the largest probe of the same draw, which contains it.",
    )
    return Table(title, columns, tuple(cells), frozenset({0, 1}), notes=notes)


def between_table(between: pd.DataFrame) -> Table:
    """Return how far two methods place alike, on the same draws; a row a pair, the most alike first."""
    ordered = between.sort_values("rank_correlation", ascending=False, kind="stable", na_position="last")
    rows = tuple(
        (
            str(row["method"]),
            str(row["other"]),
            str(row["draws"]),
            f"{100 * row['overlap']:.1f}",
            NOTHING if pd.isna(row["rank_correlation"]) else f"{row['rank_correlation']:z.2f}",
        )
        for row in ordered.to_dict("records")
    )
    columns = ("Method", "Beside", "Draws", "Overlap (%)", "Rank correlation")
    return Table("Between methods, on the same samples", columns, rows, frozenset({0, 1}))


def _mean_and_range(values: pd.Series, form: str) -> str:
    return f"{values.mean():{form}} ({values.min():{form}} to {values.max():{form}})"
