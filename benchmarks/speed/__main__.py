"""`python -m benchmarks.speed`: measure, print the table, write a record. Exit status 0 even if a target is missed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.jobs.session import refusals
from benchmarks.models.load import DTYPES, EMBEDDED
from benchmarks.models.load import check as check_model
from benchmarks.plan.device import device as usable
from benchmarks.plan.request import Request
from benchmarks.speed import record
from benchmarks.speed.ratios import Ratio, table
from benchmarks.speed.setting import Setting
from benchmarks.speed.subjects import SUBJECTS
from results.names import pick
from results.table import Table, terminal_table

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    only: Annotated[str | None, typer.Option(help=f"Some of {', '.join(SUBJECTS)}, with commas. [all]")] = None,
    model: Annotated[str, typer.Option(help="As in benchmarks.run; tiny needs no data.")] = EMBEDDED,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help=f"{', '.join(DTYPES)}.")] = "bfloat16",
    width: Annotated[int, typer.Option(min=8, help="Of the single layer.")] = Setting.width,
    tokens: Annotated[int, typer.Option(min=1, help="That the single layer sees.")] = Setting.tokens,
    effort: Annotated[float, typer.Option(help="Multiplies the rounds of every comparison.")] = 1.0,
    out: Annotated[Path | None, typer.Option(help="Folder for speed.json and speed.md.")] = None,
) -> None:
    """Print ratios of time and memory, measured side by side, with their targets."""
    setting = Setting(device=device, model=model, dtype=dtype, width=width, tokens=tokens, effort=effort)
    names = only.split(",") if only else list(SUBJECTS)
    with refusals():
        check(setting, names)
    rows: list[Ratio] = []
    tables: list[Table] = []
    for subject_rows, subject_tables in measured(setting, names):
        rows += subject_rows
        tables += subject_tables
        if out:
            record.write(out, rows, setting, tables)  # a node may be taken away before the next one is done
    console = Console(width=Console().width if Console().is_terminal else 200)
    for shown in (table(rows), *(terminal_table(t, boxed=True) for t in tables)):
        console.print(shown)
    if out and rows:
        typer.echo(f"written: {out / 'speed.json'}, {out / 'speed.md'}")


def check(setting: Setting, names: Sequence[str]) -> None:
    """Raise ValueError for a setting or comparison that there is not, before anything is measured."""
    for name in names:
        pick("comparison", name, SUBJECTS)
    asked: dict[str, Any] = dict(dtype=setting.dtype, device=setting.device)
    Request(**asked)
    usable(setting.device)
    check_model(setting.model)
    if not (math.isfinite(setting.effort) and setting.effort > 0):
        raise ValueError(f"effort {setting.effort} must be a number above 0")


def measured(setting: Setting, names: list[str]) -> Iterator[tuple[list[Ratio], list[Table]]]:
    """Measure the comparisons of those names in turn; one that fails on the device is named and left out."""
    for name in names:
        typer.echo(f"{name} ...", err=True)
        try:
            subject = SUBJECTS[name](setting)
            for _ in range(subject.rounds):
                subject.round()
            yield subject.rows(), subject.tables()
        except RuntimeError as error:  # out of memory, or whatever else a device says
            typer.echo(f"{name}: {type(error).__name__}: {error}", err=True)


if __name__ == "__main__":
    app()
