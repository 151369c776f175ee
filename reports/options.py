"""Options that the commands of `python -m reports` share, and what they do with them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from reports.analysis.groups import Group, MixedError, load_records, make_groups
from results.adapters import joined
from results.record import Record
from results.store import RECORDS, Store
from results.studies.stability import STABILITY, Stability

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "reports" / "out" / "main"
PAPER = ROOT / "reports" / "out" / "paper"
COST = ROOT / "reports" / "out" / "cost"
COSTS = ROOT / "results" / "records" / "costs"
CARD_OUT = ROOT / "reports" / "out" / "card"
CARD = ROOT / "results" / "records" / "card"
SERVING_OUT = ROOT / "reports" / "out" / "serving"
SERVED = ROOT / "results" / "records" / "serving"
README = ROOT / "README.md"

Records = Annotated[list[Path] | None, typer.Option("--records", help="Folder of records; may be given again.")]
Suite = Annotated[str | None, typer.Option(help="Only this suite.")]
SplitBy = Annotated[list[str] | None, typer.Option("--split-by", help="One report for each value of this field.")]
Allow = Annotated[list[str] | None, typer.Option("--allow", help="Field that may differ within a table.")]
Images = Annotated[bool, typer.Option(help="Draw figures, not only their numbers.")]
Vector = Annotated[bool, typer.Option("--vector", help="Draw every figure as SVG too, for print.")]


def formats(images: bool, vector: bool) -> tuple[str, ...]:
    """Return the formats that figures are drawn in."""
    return (("png", "svg") if vector else ("png",)) if images else ()


def keep_committed(records: list[Path] | None, out: Path, committed: Path, check: bool) -> None:
    """Other records are not drawn over the committed report."""
    others = [folder for folder in records or () if folder.resolve() != RECORDS]
    if others and not check and out.resolve() == committed:
        refuse(f"--records without --out would draw over {shown(committed)}; say where with --out {others[0]}/report")


def existing(records: list[Path] | None) -> list[Path]:
    """Return the folders, by default the committed records; ends the command where one does not exist."""
    for folder in records or []:
        if not folder.is_dir():
            refuse(f"no folder {folder}")
    return records or [RECORDS]


def load_groups(
    records: list[Path] | None,
    suite: str | None,
    split_by: list[str] | None,
    allow: list[str] | None,
    auto_split: bool = False,
) -> list[Group]:
    """Group the records of these folders; ends the command, saying what is wrong, where they may not be made."""
    folders = existing(records)
    try:
        return make_groups(load_records(folders, suite), split_by or (), allow or (), auto_split)
    except (MixedError, ValueError) as error:
        refuse(str(error))


def by_key(folders: list[Path], keys: list[str]) -> tuple[list[Record], list[str]]:
    """Return (the records of these keys, keys that no folder has)."""
    stores = [Store(folder) for folder in folders]
    loaded = {key: next((r for s in stores if (r := s.load(key)) is not None), None) for key in map(str.strip, keys)}
    missing = [key for key, record in loaded.items() if record is None]
    return joined(record for record in loaded.values() if record is not None), missing


def load_measured_stability(folders: list[Path]) -> list[Stability]:
    """Return the committed measurements for the committed records; for others those in a folder below."""
    from reports.analysis.stability import load_stability

    stability = [STABILITY if folder.resolve() == RECORDS else folder / STABILITY.name for folder in folders]
    try:
        return [m for folder in stability for m in load_stability(folder)]
    except ValueError as error:
        refuse(str(error))


def finish(problems: list[str], out: Path, command: str) -> NoReturn:
    """End a check, with exit status 1 where something differs."""
    for problem in problems:
        print(f"{shown(out)}/{problem}")
    if problems:
        print(f"Redraw with: {command}")
    raise typer.Exit(1 if problems else 0)


def shown(path: Path) -> str:
    """Relative to here where that is shorter to read."""
    path = path.resolve()
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def refuse(message: str) -> NoReturn:
    """Print the message to stderr and end the command with exit status 2."""
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(2)
