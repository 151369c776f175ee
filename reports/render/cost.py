"""The page of the cost laws, its numbers and its figures."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import matplotlib

from reports.analysis.cost_laws import LENGTH, PASSING, PHASES, PROBES, TRAINED, Law, predictions
from reports.figures import style
from reports.figures.canvas import Rows
from reports.figures.cost import draw_cost
from reports.render.files import Images, compare, write_images, write_text
from reports.render.table import csv_text
from reports.render.templating import as_markdown
from results.record import Record
from results.table import NOTHING, Table


def draw_costs(laws: Sequence[Law], records: Sequence[Record], out: Path, images: Images = ("png",)) -> None:
    """Write the page, its numbers and a figure for each phase and measure into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    page = as_markdown(
        "cost.md.j2", records=records, spec=records[0].spec, laws=laws_table(laws), predictions=predictions_table(),
        machine=records[0].environment.get("cpu_model") or records[0].spec.device, length=LENGTH, trained=TRAINED,
        probes=PROBES, passing=f"{PASSING:.0%}",
    )  # fmt: skip
    write_text(out / "cost.md", page)
    write_text(out / "cost.csv", csv_text(points(laws)))
    for phase in PHASES if images else ():
        for what in ("seconds", "memory"):
            with matplotlib.rc_context(style.RC):
                if (figure := draw_cost(laws, phase, what)) is not None:
                    write_images(figure, out / f"{phase}-{what}", images)


def check_costs(laws: Sequence[Law], records: Sequence[Record], out: Path, images: bool = True) -> list[str]:
    """Compare `out` with a redraw: what differs, one line a file; empty when nothing does. images: have to exist."""
    with tempfile.TemporaryDirectory() as temporary:
        draw_costs(laws, records, Path(temporary), ())
        return compare(Path(temporary), out, images)


def laws_table(laws: Sequence[Law]) -> Table:
    """Lay out a row for each law."""
    rows = []
    for law in laws:
        error = "" if law.stderr is None else f" ± {law.stderr:.2f}"
        expected = NOTHING if law.expected is None else f"{law.expected:.2f}"
        slope, counted = (
            NOTHING if value is None else f"{value / 1e6:+z.2f} MB" for value in (law.slope, law.expected_slope)
        )
        span = f"{law.points[0][0]:g} to {law.points[-1][0]:g}"
        exponent = f"{law.exponent:z.2f}{error}"
        rows.append((law.label, law.phase, law.axis, span, exponent, expected, slope, counted))
    columns = ("method", "phase", "axis", "range", "exponent", "expected", "memory for one more", "counted")
    return Table("", columns, tuple(rows), frozenset({0, 1, 2}))


def predictions_table() -> Table:
    """Lay out a row for each model, number of tasks and adapter that was counted."""
    rows = []
    for row in predictions():
        share = float(row["scoring_share"])
        rows.append(
            (
                str(row["model"]),
                str(row["tasks"]),
                str(row["adapter"]),
                f"{float(row['trained_params']) / 1e6:,.0f} M",
                f"{float(row['resident_bytes']) / 1e9:,.0f} GB",
                f"{float(row['training_operations']):.1e}",
                f"{float(row['times_lora']):.2f}",
                f"{share:.1%} of training" if share else NOTHING,
            )
        )
    weights = "weights and optimiser"
    columns = ("model", "tasks", "adapter", "trained", weights, "operations", "times LoRA's", "sensitivity")
    return Table("", columns, tuple(rows), frozenset({0, 2}))


def points(laws: Sequence[Law]) -> Rows:
    """Every measured point, with the exponent of its law; six digits of each number."""
    rows = []
    for law in laws:
        memory = dict(law.memory)
        for x, y in law.points:
            numbers = {
                "value": x, "seconds": y, "bytes_above_load": memory.get(x), "exponent": law.exponent,
                "stderr": law.stderr, "expected": law.expected, "slope_bytes": law.slope,
                "expected_slope_bytes": law.expected_slope,
            }  # fmt: skip
            texts = {name: None if number is None else f"{number:.6g}" for name, number in numbers.items()}
            rows.append({"method": law.label, "phase": law.phase, "axis": law.axis, **texts})
    return rows
