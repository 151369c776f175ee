"""The page of the stability measurements: how much of an allocation survives another draw of the samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reports.figures.canvas import Rows
from reports.figures.stability import draw_stability, stability_rows
from reports.render.files import Images, write_figure, write_text
from reports.render.templating import as_markdown
from results.stability import Stability
from results.table import Table


def write_stability(measured: Sequence[Stability], folder: Path, images: Images) -> None:
    """Into `folder`: a table, its figure, the plotted numbers, and the measurements they are from."""
    rows = stability_rows(measured)
    title = "Allocation stability: " + ", ".join(sorted({f"{m.suite}, {m.model.rsplit('/', 1)[-1]}" for m in measured}))
    folder.mkdir(exist_ok=True)
    write_figure(folder, "stability", rows, lambda: draw_stability(rows, title), images)
    table = stability_table(rows, "")
    write_text(folder / "stability.md", as_markdown("stability.md.j2", title=title, table=table, measured=measured))


def stability_table(rows: Rows, title: str) -> Table:
    """Means over pairs, in percent; a row a method, kind and number of samples."""
    groups: dict[tuple, Rows] = {}
    for r in rows:
        groups.setdefault((r["method"], r["kind"], r["samples"]), []).append(r)
    cells = []
    for (method, kind, samples), part in groups.items():
        overlaps, chances = [100 * r["overlap"] for r in part], [100 * r["chance"] for r in part]
        rhos = [r["rank_correlation"] for r in part if r["rank_correlation"] is not None]
        cells.append(
            (
                method,
                kind,
                str(samples),
                str(len(part)),
                f"{np.mean(overlaps):.1f} ({min(overlaps):.1f} to {max(overlaps):.1f})",
                f"{np.mean(chances):.1f}",
                f"{np.mean(rhos):z.2f} ({min(rhos):z.2f} to {max(rhos):z.2f})" if rhos else "–",
            )
        )
    columns = ("Method", "Compared with", "Samples a task", "Pairs", "Overlap (%)", "By chance (%)", "Rank correlation")
    notes = (
        "Mean over pairs, smallest and largest in brackets. Overlap: share of experts that two allocations put into "
        "the same blocks; by chance: both histograms dealt to the blocks at random. Another draw: other documents, as "
        "many. Smaller probe: against the largest probe of the same draw, which contains it.",
    )
    return Table(title, columns, tuple(cells), frozenset({0, 1}), notes=notes)
