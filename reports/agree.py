"""`python -m reports agree RECORDED AGAIN`: whether a row that was run again says what it said."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from reports.analysis.groups import load_records
from reports.options import existing, refuse
from results.table import terminal_table

WIDE = 170  # columns of tables that do not fold


def agree(
    recorded: Annotated[Path, typer.Argument(help="Folder with the records of one row.")],
    again: Annotated[Path, typer.Argument(help="Folder with those of the same specs, run again.")],
) -> None:
    """Say whether a row that was run again agrees with its records; exit 1 where it differs."""
    from reports.analysis import replication

    try:
        rows = [load_records([folder]) for folder in existing([recorded, again])]
        if not all(rows):
            raise ValueError("no record to compare")
        found = replication.agreements(rows[0], rows[1])
    except ValueError as error:
        refuse(str(error))
    Console(width=WIDE).print(terminal_table(replication.table(found)))
    for line in replication.beside(rows[0], rows[1]):
        print(line)
    raise typer.Exit(1 if any(one.agrees is False for one in found) else 0)
