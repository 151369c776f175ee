"""What must not change at all: parameters, adapter bytes, allocation, prompts, training data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.gate.pairs import Row
from results import Record

_PROMPTS = ("prompt_hash",)
_TRAINING = ("train_documents", "train_hash", "train_tokens", "truncated")
_ABSENT = "nothing"


def exact_checks(row: Row) -> list[dict[str, str] | None]:
    """Return the fields of a finding for each check; None where there is nothing to check."""
    return [
        _exact(row, "trainable parameters", lambda r: {"trainable": getattr(r.parameters, "trainable", None)}),
        _exact(row, "adapter bytes", lambda r: {"adapter_bytes": getattr(r.parameters, "adapter_bytes", None)}),
        _exact(row, "allocation", _allocation, absent=0),
        _exact(row, "prompts", lambda r: _entries(r, _PROMPTS)),
        _exact(row, "training data", lambda r: _entries(r, _TRAINING)),
    ]


def _exact(
    row: Row, check: str, get: Callable[[Record], Mapping[str, Any]], absent: Any = _ABSENT
) -> dict[str, str] | None:
    """Check that values by name are equal. A name that one side lacks counts as `absent`.

    By default a name that BASE lacks is passed over, since it may be older than the entry; one that got lost is not.
    """
    checked = 0
    for base, new in row.pairs:
        old, now = get(base), get(new)
        names = old.keys() if absent is _ABSENT else old.keys() | now.keys()
        checked += len(names)
        differing = sorted(n for n in names if old.get(n, absent) != now.get(n, absent))
        if differing:
            shown = [f"{n} {_number(old.get(n, absent))} -> {_number(now.get(n, absent))}" for n in differing[:3]]
            more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
            sums = [_sum(old), _sum(now)]
            return dict(
                check=check, status="regression", base=sums[0], new=sums[1],
                change=f"{len(differing)} of {len(names)}", detail=f"must not change: {', '.join(shown)}{more}",
            )  # fmt: skip
    return dict(check=check, status="ok") if checked else None


def _entries(record: Record, names: Sequence[str]) -> dict[str, Any]:
    """Collect what the record says of its tasks' data under these names, as "task name"."""
    tasks = {task: entry for task, entry in record.data.items() if isinstance(entry, Mapping)}
    return {f"{task} {name}": entry[name] for task, entry in tasks.items() for name in names if name in entry}


def _allocation(record: Record) -> dict[str, int]:
    """Collect experts by block; a job with an adapter for each task has them by task and block."""
    adapters = record.facts.get("adapters") or {"": record.facts}
    return {f"{t} {b}".strip(): n for t, facts in adapters.items() for b, n in (facts.get("experts") or {}).items()}


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _sum(values: Mapping[str, Any]) -> str:
    return f"{sum(values.values()):,}" if all(isinstance(v, int) for v in values.values()) else ""
