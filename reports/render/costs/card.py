"""The page of a pass over a GPU, its numbers and its figure, and its table for the README."""

from __future__ import annotations

import tempfile
from pathlib import Path

import matplotlib

from reports.analysis.costs.card import Pass, Ratio, Step, accuracies
from reports.figures import style
from reports.figures.cost import draw_steps
from reports.render.files import Images, compare, write_images, write_text
from reports.render.table import csv_text
from reports.render.templating import as_markdown
from results.table import NOTHING, Table, markdown

FIGURE = "steps"


def draw_card(found: Pass, out: Path, images: Images = ("png",)) -> None:
    """Write the page, its numbers and its figure into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    page = as_markdown(
        "card.md.j2", found=found, steps=steps_table(found), ratios=ratios_table(found), limits=limits_table(found),
        accuracy=accuracy_table(found), figure=FIGURE,
    )  # fmt: skip
    write_text(out / "card.md", page)
    write_text(out / "card.csv", csv_text([vars(step) for step in found.steps]))
    if found.steps and images:
        with matplotlib.rc_context(style.RC):
            write_images(draw_steps(found.steps), out / FIGURE, images)


def check_card(found: Pass, out: Path, images: bool = True) -> list[str]:
    """Compare `out` with a redraw: what differs, one line a file; empty when nothing does. images: have to exist."""
    with tempfile.TemporaryDirectory() as temporary:
        draw_card(found, Path(temporary), ())
        return compare(Path(temporary), out, images)


def steps_table(found: Pass) -> Table:
    """Lay out a row for each method and size of a batch."""
    rows = [
        (s.method, s.model, f"{s.batch} x {s.tokens // s.batch}", *_costs(s), f"{s.trained / 1e6:.1f} M")
        for s in found.steps
    ]
    columns = ("method", "shape", "tokens", "step (ms)", "device busy (ms)", "kernels", "peak (GB)", "allocate (s)",
               "trained")  # fmt: skip
    return Table("", columns, tuple(rows), frozenset({0, 1, 2}))


def _costs(step: Step) -> tuple[str, ...]:
    return (
        f"{1e3 * step.seconds:.0f}",
        NOTHING if step.busy_seconds is None else f"{1e3 * step.busy_seconds:.0f}",
        NOTHING if step.kernels is None else f"{step.kernels:,}",
        NOTHING if step.peak_bytes is None else f"{step.peak_bytes / 1e9:.1f}",
        NOTHING if step.allocate_seconds is None else f"{step.allocate_seconds:.1f}",
    )


def ratios_table(found: Pass) -> Table:
    """Lay out every ratio with its bound and whether it is kept."""
    rows = [(r.name, f"{r.value:.4g}", _between(r), _bound(r), _verdict(r), r.detail) for r in found.ratios]
    return Table("", ("ratio", "value", "middle half", "target", "", "detail"), tuple(rows), frozenset({0, 4, 5}))


def _between(ratio: Ratio) -> str:
    return NOTHING if ratio.low is None or ratio.high is None else f"{ratio.low:.3g} to {ratio.high:.3g}"


def _bound(ratio: Ratio) -> str:
    if ratio.bound is None:
        return NOTHING
    return f"{'at most' if ratio.at_most else 'at least'} {ratio.bound:g}"


def _verdict(ratio: Ratio) -> str:
    return {True: "met", False: "missed", None: ""}[ratio.met]


def limits_table(found: Pass) -> Table:
    """Lay out what the device does at most."""
    return Table("", ("what", "rate"), found.limits, frozenset({0}))


def accuracy_table(found: Pass) -> Table:
    """Lay out what the comparison came to."""
    rows = tuple(
        (method, NOTHING if documents is None else f"{documents:,}", str(seeds), f"{mean:.2f}",
         NOTHING if spread is None else f"{spread:.2f}")
        for method, documents, seeds, mean, spread in accuracies(found.records)
    )  # fmt: skip
    return Table("", ("method", "documents", "seeds", "macro accuracy (%)", "SD (seeds)"), rows)


def readme_block(found: Pass) -> str:
    """Return the table of the largest batch, with a line that says on what."""
    if not found.steps:
        return "No committed step on a GPU yet.\n"
    batch = max(step.batch for step in found.steps)
    shown = [step for step in found.steps if step.batch == batch]
    rows = tuple((s.method, *_costs(s)) for s in shown)
    columns = ("Method", "Step (ms)", "Device busy (ms)", "Kernels", "Peak (GB)", "Allocate (s)")
    first = shown[0]
    said = f"On one {found.card}, {first.model} with random weights, {batch} x {first.tokens // batch} tokens a step:"
    return f"{said}\n\n{markdown(Table('', columns, rows))}"
