"""How long a job should take, from the records of finished ones."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import registry
from results import Record, RunSpec
from results.comparable import repeat_key
from results.metrics import around_seconds
from results.record import PHASES

SAME = (  # without these in common, seconds of one job say nothing of another's
    "model", "device", "dtype", "protocol", "scorer", "compiled", "malloc", "quantize", "max_length", "micro_batch",
    "gradient_checkpointing",
)  # fmt: skip


def estimate_seconds(
    spec: RunSpec, records: Sequence[Record], here: Mapping[str, Any] | None = None, start: float = 0.0
) -> float | None:
    """How long the job should take, from finished ones of the same model, device, dtype and protocol; None: unknown.

    The nearest records tell (`nearness`), of several the median. Where counts differ, training and evaluation are taken
    to grow with the documents and everything else to stay. here: what the environment of a record of this machine
    says. start: seconds around the phases of a job, for want of a record that tells them.
    """
    scaled = {
        r.key: seconds
        for r in records
        if r.status == "done" and _alike(spec, r) and (seconds := _scaled(spec, r)) is not None
    }
    candidates = [r for r in records if r.key in scaled]
    if not candidates:
        return None
    chosen = _nearest(spec, candidates, here)
    telling = [r for r in candidates if around_seconds(r) is not None]
    around = [s for r in _nearest(spec, telling, here) if (s := around_seconds(r)) is not None]
    return statistics.median(scaled[r.key] for r in chosen) + (statistics.median(around) if around else start)


def nearness(spec: RunSpec, record: Record, here: Mapping[str, Any] | None) -> tuple[float, ...]:
    """Say how near a record is to the job: the higher, the better.

    The very job but its seeds on this machine, then its method here, then both elsewhere, then another method; next its
    hyperparameters, how near its counts are, and whether it had the machine to itself.
    """
    said, method = record.environment, record.spec.method == spec.method
    local = here is not None and all(said.get(name) == value for name, value in here.items())
    had = record.spec
    counts = [(spec.train_documents, had.train_documents), (spec.evaluation_limit, had.evaluation_limit)]
    apart = sum(abs(math.log(a / b)) if a and b else float(a != b) for a, b in counts)
    return (
        method and local,
        repeat_key(record.spec) == repeat_key(spec),
        method,
        local,
        record.spec.hyperparameters == spec.hyperparameters,
        -round(apart, 3),
        said.get("shared_machine") is not True,
    )


def _nearest(spec: RunSpec, records: Sequence[Record], here: Mapping[str, Any] | None) -> list[Record]:
    """Return the nearest records, of those the ones of the newest's commit: code gets faster."""
    ranks = [nearness(spec, r, here) for r in records]
    near = [r for r, rank in zip(records, ranks, strict=True) if rank == max(ranks)]
    newest = max(near, key=lambda r: str(r.environment.get("timestamp")), default=None)
    return [r for r in near if newest and r.environment.get("git_commit") == newest.environment.get("git_commit")]


def _alike(spec: RunSpec, record: Record) -> bool:
    same = all(getattr(record.spec, name) == getattr(spec, name) for name in SAME)
    return same and _trains(record.spec.method) == _trains(spec.method)


def _scaled(spec: RunSpec, record: Record) -> float | None:
    """Seconds of the phases at the job's counts; None where those are not known."""
    train = _ratio(spec.train_documents, record.spec.train_documents, record, "train_documents")
    evaluation = _ratio(
        spec.evaluation_limit, record.spec.evaluation_limit, record, "evaluation_documents", len(spec.tasks)
    )
    if train is None or evaluation is None:
        return None
    factors = {"train": train * spec.epochs / (record.spec.epochs or 1), "evaluate": evaluation}
    return sum(cost.wall_seconds * factors.get(phase, 1.0) for phase, cost in record.costs.items() if phase in PHASES)


def _trains(method: str) -> bool:
    cls = registry.methods().get(method)
    return cls is None or cls.trains


def _ratio(asked: int | None, had: int | None, last: Record, name: str, times: int = 1) -> float | None:
    """Documents asked over documents the earlier record had; None where everything is asked and it had a part."""
    if asked is None:
        return None if had is not None else 1.0
    return asked * times / (sum(d[name] for d in last.data.values()) or 1)
