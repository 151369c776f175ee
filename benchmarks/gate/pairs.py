"""Two runs side by side: which records stand opposite which, and whether they may be compared at all.

A row is one contestant: everything its spec asks but the seed, so another default of a hyperparameter makes another
row. Its seeds are its repeats. What has to agree is written down in results/comparable.py.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results import Record, RunSpec
from results.comparable import AGREED, as_text, comparison_key, paired_fields, repeat_key, row_labels
from results.pack import PACKS, SUFFIX
from results.spec import RecordError
from results.store import read, read_packed, record_files


@dataclass(frozen=True, eq=False)
class Row:
    """One contestant on both sides, its records by seed."""

    spec: RunSpec  # of any seed
    base: dict[int, Record] = field(default_factory=dict)
    new: dict[int, Record] = field(default_factory=dict)

    @property
    def pairs(self) -> list[tuple[Record, Record]]:
        """(base, new) of every seed finished on both sides."""
        both = sorted(done(self.base).keys() & done(self.new).keys())
        return [(self.base[seed], self.new[seed]) for seed in both]


class IncomparableError(ValueError):
    """Two sides that cannot be compared; the message names the field, both values and the way out."""


def load(place: Path) -> list[Record]:
    """Read the records of a folder, or of a file or pack; none is moved or changed. Raises RecordError or OSError."""
    if not place.exists():
        raise RecordError(f"{place}: no such folder or file; name one that holds records, as --out of a run does")
    if not place.is_dir():
        return list(read_packed(place)) if place.name.endswith(SUFFIX) else [read(place)]
    records = {r.key: r for pack in sorted(place.glob(PACKS)) for r in read_packed(pack)}
    records |= {r.key: r for r in map(read, record_files(place))}
    if not records:
        raise RecordError(f"{place}: no record there")
    return [records[key] for key in sorted(records)]


def match(base: Sequence[Record], new: Sequence[Record]) -> dict[str, Row]:
    """Bring records into rows by label: the method's name, with what tells it from its other rows.

    Raises IncomparableError where the two sides have no row in common.
    """
    rows: dict[str, Row] = {}
    for records, side in ((base, "base"), (new, "new")):
        for record in records:
            row = rows.setdefault(repeat_key(record.spec), Row(record.spec))
            getattr(row, side)[record.spec.seed] = record
    if not any(row.base and row.new for row in rows.values()):
        for field_name in AGREED:
            old, now = (sorted({as_text(getattr(r.spec, field_name)) for r in side}) for side in (base, new))
            _require_equal(field_name, ", ".join(old), ", ".join(now))
        raise IncomparableError(
            "BASE and NEW have no row in common: give records of the same suite, model, methods and sizes "
            "(another default of a hyperparameter makes another row)"
        )
    labels = row_labels([row.spec for row in rows.values()], every=True)
    return dict(zip(labels, rows.values(), strict=True))


def require_one_fingerprint(base: Sequence[Record], new: Sequence[Record]) -> None:
    """Raise IncomparableError unless records of one setting share machine, versions and documents."""
    first: dict[str, dict[str, Any]] = {}
    for side, records in (("BASE", base), ("NEW", new)):
        for record in (r for r in records if r.status == "done"):
            values = paired_fields(record)
            expected = first.setdefault(comparison_key(record.spec), values)
            for name, value in values.items():
                if side == "BASE" and value != expected[name]:
                    raise IncomparableError(
                        f"BASE itself mixes records that differ in {name}: {expected[name]!r} and {value!r}; "
                        "give the records of one session"
                    )
                _require_equal(name, expected[name], value)


def _require_equal(name: str, old: Any, now: Any) -> None:
    if old != now:
        raise IncomparableError(
            f"{name} differs: BASE has {old!r}, NEW has {now!r}; a difference of their numbers would say nothing. "
            "Measure both on one machine with the same versions and data; python -m benchmarks.gate does that"
        )


def done(records: Mapping[int, Record]) -> dict[int, Record]:
    """Return the finished records, by seed."""
    return {seed: r for seed, r in records.items() if r.status == "done"}


def medians(row: Row, get: Callable[[Record], float | None]) -> tuple[float | None, float | None]:
    """Take (base, new) medians over the seeds finished on both sides; None where a record of a side has no value."""
    old, now = ([value for pair in row.pairs if (value := get(pair[side])) is not None] for side in (0, 1))
    return tuple(statistics.median(v) if len(v) == len(row.pairs) else None for v in (old, now))  # type: ignore


def is_repeatable(row: Row) -> bool:
    """Say whether the same code gives the same losses and outcomes bit for bit."""
    return all(r.environment.get("deterministic") is not False for pair in row.pairs for r in pair)
