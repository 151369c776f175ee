"""How far repeats of one job lie apart: peak memory and wall-clock of every phase, each job in a process of its own.

`python -m benchmarks.studies.repeats` prints the table that the gate's limits rest on; the README keeps the figure.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.jobs.executors import LocalProcesses
from benchmarks.jobs.session import refusals
from benchmarks.models.load import DTYPES, EMBEDDED
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from results import Record, RunSpec
from results.metrics import phase_peak_bytes
from results.record import PHASES
from results.store import Store

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    times: Annotated[int, typer.Option(help="Repeats of the job.")] = 5,
    method: Annotated[str, typer.Option(help="As in benchmarks.run, with settings.")] = "lora",
    model: Annotated[str, typer.Option(help="As in benchmarks.run.")] = EMBEDDED,
    train_documents: Annotated[int, typer.Option(help="Over all tasks.")] = 32,
    limit: Annotated[int, typer.Option(help="Evaluation documents a task.")] = 2,
    dtype: Annotated[str, typer.Option(help=f"{', '.join(DTYPES)}.")] = Request.dtype,
    malloc: Annotated[str, typer.Option(help="As in benchmarks.run.")] = "mapped",
    out: Annotated[Path | None, typer.Option(help="JSON file of every figure.")] = None,
) -> None:
    """Run one job again and again and print how far apart its figures lie."""
    asked: dict[str, Any] = dict(model=model, train_documents=train_documents, limit=limit, dtype=dtype, malloc=malloc)
    with refusals():
        (spec, *_) = resolve(Request(**asked))
    records = repeated(spec, times)
    wide = Console().width if Console().is_terminal else 120
    Console(width=wide).print(table(records))
    if out:
        figures = {p: {"peak_bytes": peaks(records, p), "wall_seconds": seconds(records, p)} for p in PHASES}
        body = {"spec": records[0].spec.to_json(), "environment": records[0].environment, "phases": figures}
        out.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


def repeated(spec: RunSpec, times: int) -> list[Record]:
    """Run one job `times` times and return the records. Raises RuntimeError when one fails."""
    records = []
    for i in range(times):
        typer.echo(f"{spec.key}: {i + 1} of {times}", err=True)
        with tempfile.TemporaryDirectory() as folder:
            (record,) = LocalProcesses(Store(folder)).run([spec], lambda spec: lambda *progress: None)
        if record.status != "done":
            raise RuntimeError(f"{spec.key}: {record.error}")
        records.append(record)
    return records


def spread(values: Sequence[float | None]) -> float | None:
    """Largest over smallest, less one; None where a value is not known."""
    measured = [v for v in values if v]
    return max(measured) / min(measured) - 1 if measured and len(measured) == len(values) else None


def peaks(records: Sequence[Record], phase: str) -> list[int | None]:
    """Return the peak memory of a phase in bytes, a value a record."""
    return [phase_peak_bytes(r, phase) for r in records]


def seconds(records: Sequence[Record], phase: str) -> list[float]:
    """Return the wall-clock seconds of a phase, a value a record."""
    return [r.costs[phase].wall_seconds for r in records]


def table(records: Sequence[Record]) -> Table:
    """Return a row for each phase: median and spread of its peak memory and of its wall-clock."""
    result = Table("phase", "peak MB", "spread", "seconds", "spread", title=f"{len(records)} runs of {records[0].key}")
    for phase in PHASES:
        row = []
        for values, scale in ((peaks(records, phase), 1e6), (seconds(records, phase), 1.0)):
            measured, apart = [v for v in values if v is not None], spread(values)
            row.append(f"{statistics.median(measured) / scale:,.1f}" if measured else "-")
            row.append("-" if apart is None else f"{apart:.2%}")
        result.add_row(phase, *row)
    return result


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.studies.repeats")
