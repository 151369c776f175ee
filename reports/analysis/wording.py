"""What tables say in words: numbers in their units, intervals, names, and where documents come from."""

from __future__ import annotations

from collections.abc import Sequence

from results.metrics import Metric
from results.record import Record
from results.table import NOTHING

EMBEDDED = "embedded split, not comparable with published numbers"
# Unit of a metric as stored -> the unit shown, and the factor between them.
SHOWN = {"fraction": ("%", 100.0), "bytes": ("MB", 1e-6), "seconds": ("s", 1.0), "params": ("", 1.0)}


def metric_text(row: Metric, value: float | None, compact: bool = False) -> str:
    """Write a value in the shown unit, without its name; compact: millions of parameters."""
    if compact and row.unit == "params" and value is not None and value >= 1e5:
        return f"{value / 1e6:,.2f}M"
    return NOTHING if value is None else format(value * SHOWN.get(row.unit, ("", 1.0))[1], row.format)


def interval_text(interval: tuple[float, float] | None) -> str:
    """Write an interval of fractions in points."""
    return NOTHING if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def seed_count(seeds: Sequence[int]) -> str:
    """Write how many seeds there are, and in brackets which."""
    return f"{len(seeds)} ({', '.join(map(str, seeds))})" if seeds else NOTHING


def names(labels: Sequence[str]) -> str:
    """Join names with commas and "and"."""
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"


def data_source(records: Sequence[Record]) -> str:
    """Say where the documents of these records come from, where that has to be said; empty for full public splits."""
    own = {record.key: own_tasks(record) for record in records}
    embedded = any(r.spec.source == "embedded" and not set(r.spec.tasks) <= own[r.key] for r in records)
    yours = sorted(set().union(*own.values()))
    parts = [f"your data ({', '.join(yours)})" if embedded else "your data"] if yours else []
    return "; ".join([*parts, *([EMBEDDED] if embedded else [])])


def own_tasks(record: Record) -> set[str]:
    """Return the tasks of one's own files; where a job failed before it read any, all that it asked for."""
    if record.spec.own_tasks is None:
        return set()
    return {task for task, facts in record.data.items() if facts.get("own")} or set(record.spec.tasks)
