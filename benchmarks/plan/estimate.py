"""How long a job should take, from the records of finished ones."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import registry
from results import Record, RunSpec


def estimate_seconds(spec: RunSpec, records: Sequence[Record]) -> float | None:
    """How long the job should take, from finished ones of the same model, device, dtype and protocol; None: unknown.

    Time of training and evaluation is taken to grow with the documents, everything else to stay.
    """
    alike = [
        r
        for r in records
        if r.status == "done"
        and all(getattr(r.spec, name) == getattr(spec, name) for name in ("model", "device", "dtype", "protocol"))
        and _trains(r.spec.method) == _trains(spec.method)
    ]
    if not alike:
        return None
    last = max(alike, key=lambda r: (r.spec.method == spec.method, str(r.environment.get("timestamp"))))
    train = _ratio(spec.train_documents, last.spec.train_documents, last, "train_documents")
    evaluation = _ratio(
        spec.evaluation_limit, last.spec.evaluation_limit, last, "evaluation_documents", len(spec.tasks)
    )
    if train is None or evaluation is None:
        return None
    seconds = {phase: cost.wall_seconds for phase, cost in last.costs.items()}
    return (
        seconds.get("load", 0)
        + seconds.get("allocate", 0)
        + seconds.get("train", 0) * train * spec.epochs / (last.spec.epochs or 1)
        + seconds.get("evaluate", 0) * evaluation
    )


def _trains(method: str) -> bool:
    cls = registry.methods().get(method)
    return cls is None or cls.trains


def _ratio(asked: int | None, had: int | None, last: Record, name: str, times: int = 1) -> float | None:
    """Documents asked over documents the earlier record had; None where everything is asked and it had a part."""
    if asked is None:
        return None if had is not None else 1.0
    return asked * times / (sum(d[name] for d in last.data.values()) or 1)
