"""The pages of the cost laws and of serving, their numbers and their figures."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import matplotlib

from reports.analysis.costs.cost_laws import LENGTH, PASSING, PHASES, PROBES, TRAINED, Law, predictions
from reports.analysis.costs.serving import Served, Spread, answers
from reports.figures import style
from reports.figures.canvas import Rows
from reports.figures.cost import draw_cost
from reports.figures.serving import draw_serving
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


def draw_served(rows: Sequence[Served], records: Sequence[Record], out: Path, images: Images = ("png",)) -> None:
    """Write the page of what serving costs, its numbers and its figure into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    page = as_markdown(
        "serving.md.j2", records=records, spec=records[0].spec, told=records[0].facts["serving"],
        machine=records[0].environment.get("cpu_model") or records[0].spec.device, answers=answers(rows),
        summary=served_table(rows), forms=forms_table(rows),
    )  # fmt: skip
    write_text(out / "serving.md", page)
    write_text(out / "serving.csv", csv_text(served_points(rows)))
    if images:
        with matplotlib.rc_context(style.RC):
            write_images(draw_serving(rows), out / "serving", images)


def check_served(rows: Sequence[Served], records: Sequence[Record], out: Path, images: bool = True) -> list[str]:
    """Compare `out` with a redraw, as `check_costs`."""
    with tempfile.TemporaryDirectory() as temporary:
        draw_served(rows, records, Path(temporary), ())
        return compare(Path(temporary), out, images)


def served_table(rows: Sequence[Served]) -> Table:
    """Lay out a row for each method in the form that it is served in."""
    batches = sorted({row.batch for row in rows})
    lines = []
    for model, label in dict.fromkeys((row.model, row.label) for row in rows):
        mine = {row.batch: row for row in rows if (row.model, row.label) == (model, label) and row.is_served}
        any_row, above = mine[batches[0]], mine[batches[-1]].above_base_bytes
        lines.append(
            (
                model,
                label,
                {True: "yes", False: "no", None: "no adapter"}[any_row.mergeable],
                f"{any_row.kept_parameters:,}",
                *(_percent(mine[batch].decode_of_base) for batch in batches),
                NOTHING if above is None else f"{above / 1e6:+z,.1f}",
            )
        )
    speeds = (f"decode, of base, batch {batch}" for batch in batches)
    columns = ("model", "method", "mergeable", "kept parameters", *speeds, f"MB above base, batch {batches[-1]}")
    return Table("", columns, tuple(lines), frozenset({0, 1, 2}))


def forms_table(rows: Sequence[Served]) -> Table:
    """Lay out a row for each form and batch."""
    lines = tuple(
        (
            row.model,
            row.label,
            row.form,
            str(row.batch),
            _range(row.prefill),
            _range(row.decode),
            _percent(row.decode_of_base),
            NOTHING if row.operations_of_base is None else f"{row.operations_of_base:.3f}",
            NOTHING if row.bytes_of_base is None else f"{row.bytes_of_base:.3f}",
            NOTHING if row.peak_bytes is None else f"{row.peak_bytes / 1e6:,.1f}",
        )
        for row in rows
    )
    speeds = ("prefill, tokens/s", "decode, tokens/s", "decode, of base")
    columns = ("model", "method", "form", "batch", *speeds, "operations, counted", "bytes, counted", "peak MB")
    return Table("", columns, lines, frozenset({0, 1, 2}))


def served_points(rows: Sequence[Served]) -> Rows:
    """Every form and batch, with six digits of each number."""
    points: Rows = []
    for row in rows:
        whole = ("kept_parameters", "peak_bytes", "above_base_bytes")
        numbers: dict[str, float | None] = {}
        for name in ("prefill", "decode", "decode_of_base"):
            value: Spread = getattr(row, name)
            numbers |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
        numbers |= {"operations_of_base": row.operations_of_base, "bytes_of_base": row.bytes_of_base}
        texts = {name: None if number is None else f"{number:.6g}" for name, number in numbers.items()}
        identity = {"model": row.model, "method": row.label, "form": row.form, "batch": row.batch}
        points.append({**identity, **{name: getattr(row, name) for name in whole}, **texts})
    return points


def _range(value: Spread) -> str:
    return f"{value.value:,.0f} ({value.low:,.0f} to {value.high:,.0f})"


def _percent(value: Spread) -> str:
    return f"{value.value:.0%} ({value.low:.0%} to {value.high:.0%})"
