"""`python -m benchmarks replicate KEY`: run a committed row again, here, and say whether it agrees.

KEY is that of a record, or its beginning. Its job is run again from its spec alone, `--row` with all seeds of its row,
into a folder of its own; the reports' command says whether the interval of each difference covers 0. Exit status: 0 it
agrees, 1 it differs or a job failed, 2 it cannot be run here.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.jobs import session
from benchmarks.jobs.executors import ROOT
from benchmarks.models import identity
from benchmarks.plan.device import device as usable
from results import Record, RunSpec
from results.names import unknown
from results.store import RECORDS, SCRATCH, Store, folder_path

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def main(
    key: Annotated[str, typer.Argument(help="Of a record, or its beginning.")],
    records: Annotated[
        Path, typer.Option(parser=folder_path, help="Folder of the records.", show_default="results/records")
    ] = RECORDS,
    row: Annotated[bool, typer.Option("--row", help="All seeds of its row.")] = False,
    device: Annotated[str | None, typer.Option(help="Another device than the record's.")] = None,
    out: Annotated[
        Path,
        typer.Option(parser=folder_path, help="Folder of what is found.", show_default="results/scratch/replicate"),
    ] = SCRATCH / "replicate",
) -> None:
    """Run a row again and say whether it agrees with its records."""
    store = Store(out)
    with session.refusals():
        recorded = chosen(key, Store(records).all(), row)
        specs = [again(record.spec, device) for record in recorded]
        store.check_writable()
        session.preflight(specs)
    if session.run(specs, store):
        raise typer.Exit(1)
    found = [record for spec in specs if (record := store.load(spec.key)) is not None]
    raise typer.Exit(compare(recorded, found))


def chosen(key: str, records: Sequence[Record], row: bool) -> list[Record]:
    """Return the record of that key, or all of its row. Raises ValueError where there is none, or several begin so."""
    done = {record.spec.key: record for record in records if record.status == "done"}
    matching = [name for name in done if name.startswith(key)]
    if key in done:
        matching = [key]
    if not matching:
        raise unknown("record", key, done)
    if len(matching) > 1:
        raise ValueError(f"several records begin with {key!r}: {', '.join(sorted(matching))}; name one of them")
    first = done[matching[0]]
    if not row:
        return [first]
    return sorted((r for r in done.values() if _row(r.spec) == _row(first.spec)), key=lambda r: r.spec.seed)


def _row(spec: RunSpec) -> RunSpec:
    return replace(spec, seed=0, data_seed=0)


def again(spec: RunSpec, device: str | None) -> RunSpec:
    """Return what is run. Raises ValueError where it would not be the same job here, saying in what."""
    if spec.model_content is not None and (here := identity.content(spec.model)) != spec.model_content:
        raise ValueError(
            f"{spec.model} is another model here: its content is {here}, the record's {spec.model_content}"
        )
    return replace(spec, device=usable(device or spec.device))


def compare(recorded: Sequence[Record], found: Sequence[Record]) -> int:
    """Let the reports' own command compare them, which needs the records alone. Returns its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        for name, of in (("recorded", recorded), ("again", found)):
            for record in of:
                Store(Path(folder) / name).save(record)
        command = ["reports", "agree", str(Path(folder) / "recorded"), str(Path(folder) / "again")]
        return subprocess.run([sys.executable, "-m", *command], cwd=ROOT).returncode


if __name__ == "__main__":
    app(prog_name="python -m benchmarks replicate")
