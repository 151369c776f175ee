"""`python -m reports agree RECORDED AGAIN`: whether a row that was run again says what it said.

A row is a method's records over its seeds; again: the same specs, run elsewhere or later. Every headline measure's
difference has an interval: over documents and seeds, which cross, where the row has two seeds or more; with one, over
documents. Where the two agree it covers 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from reports.analysis import crossed
from reports.analysis.crossed import Estimate
from reports.analysis.groups import load_records
from reports.analysis.measures import HEADLINES, Measure, values
from reports.options import existing, refuse
from results.comparable import short_hash
from results.record import Record
from results.table import NOTHING, Table, terminal_table

WIDE = 170  # columns of tables that do not fold
BESIDE = ("git_commit", "cpu_model", "device_name", "threads", "python")  # of the environment, told where they differ


@dataclass(frozen=True)
class Agreement:
    """One measure of a row as it was recorded and as it was found again."""

    measure: Measure
    recorded: float
    again: float
    estimate: Estimate | None  # of again - recorded; None where the documents are too few for an interval
    about_models: bool  # over documents alone, for want of a second seed

    @property
    def agrees(self) -> bool | None:
        """Whether 0 lies within the 95% interval; None without one."""
        if self.estimate is None:
            return None
        low, high = self.estimate.interval()
        return low <= 0 <= high


def agreements(recorded: Sequence[Record], again: Sequence[Record]) -> list[Agreement]:
    """Compare two rows of the same specs, seed by seed.

    Raises ValueError where one of them failed, or they did not answer the same documents.
    """
    first, second = (sorted(records, key=lambda r: r.spec.seed) for records in (recorded, again))
    if [r.spec.seed for r in first] != [r.spec.seed for r in second]:
        raise ValueError("the two do not have the same seeds")
    for record in (*first, *second):
        if record.status != "done":
            raise ValueError(f"{record.spec.key} failed: {record.error}")
    for a, b in zip(first, second, strict=True):
        if _documents(a) != _documents(b):
            raise ValueError(f"{a.spec.key} answered other documents than {b.spec.key}: other data, not another answer")
    found = []
    for measure in HEADLINES:
        arrays = values([first, second], first[0].spec.tasks, measure)
        if arrays is None:
            continue
        paired = crossed.against(arrays, 0)[1]
        old, new = (float(sum(a[i].mean() for a in arrays) / len(arrays)) for i in (0, 1))
        found.append(Agreement(measure, old, new, paired.method or paired.models, paired.method is None))
    return found


def _documents(record: Record) -> str:
    scores = record.scores or {}
    return short_hash([(task, scores[task].documents) for task in sorted(scores)])


def table(found: Sequence[Agreement]) -> Table:
    """Lay out a row for each measure."""
    rows = []
    for one in found:
        scale, shown = one.measure.scale, one.measure.format
        plain = shown.replace("+", "")
        between = NOTHING
        if one.estimate is not None:
            between = " to ".join(f"{scale * end:{shown}}" for end in one.estimate.interval())
        word = {True: "agrees", False: "differs", None: "cannot be told"}[one.agrees]
        rows.append(
            (
                f"{one.measure.label} ({one.measure.unit})",
                f"{scale * one.recorded:{plain}}",
                f"{scale * one.again:{plain}}",
                f"{scale * (one.again - one.recorded):{shown}}",
                between,
                word,
            )
        )
    over = "documents" if any(one.about_models for one in found) else "documents and seeds"
    columns = ("measure", "recorded", "again", "difference", f"95% interval over {over}", "")
    return Table("", columns, tuple(rows), frozenset({0, 5}))


def beside(recorded: Sequence[Record], again: Sequence[Record]) -> list[str]:
    """Say in a line each what of machine, versions and commit is not the same, and how many answers changed."""
    a, b = recorded[0].environment, again[0].environment
    lines = [f"{name}: {a.get(name)}; now {b.get(name)}" for name in BESIDE if a.get(name) != b.get(name)]
    old, new = a.get("versions") or {}, b.get("versions") or {}
    lines += [
        f"{name}: {old.get(name)}; now {new.get(name)}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
    pairs = [
        (x, y)
        for one, other in zip(*(sorted(rs, key=lambda r: r.spec.seed) for rs in (recorded, again)), strict=True)
        for task in one.spec.tasks
        for x, y in zip((one.scores or {})[task].outcomes, (other.scores or {})[task].outcomes, strict=True)
    ]
    return [*lines, f"{sum(x != y for x, y in pairs)} of {len(pairs)} answers changed from right to wrong or back"]


def agree(
    recorded: Annotated[Path, typer.Argument(help="Folder with the records of one row.")],
    again: Annotated[Path, typer.Argument(help="Folder with those of the same specs, run again.")],
) -> None:
    """Say whether a row that was run again agrees with its records; exit 1 where it differs."""
    try:
        rows = [load_records([folder]) for folder in existing([recorded, again])]
        if not all(rows):
            raise ValueError("no record to compare")
        found = agreements(rows[0], rows[1])
    except ValueError as error:
        refuse(str(error))
    Console(width=WIDE).print(terminal_table(table(found)))
    for line in beside(rows[0], rows[1]):
        print(line)
    raise typer.Exit(1 if any(one.agrees is False for one in found) else 0)
