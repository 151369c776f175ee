"""The regression gate's rules: the records of two runs -> findings, one for each row and check.

Records are brought into rows by pairs.py. Accuracy and time are judged relative to the reference method of
the same side, since a library or a busy machine moves all methods together; the reference itself has only its own past
to be judged by.

The accuracy test is scipy's paired permutation test, exact where few documents changed. It asks another question than
the reports' intervals do (one-sided, of a difference of differences), so no formula of `reports` stands here
twice, and `benchmarks` need not import `reports`.

Beyond the house's protocol: the training loss. The same code on the same machine gives the same losses, so it shows a
change of the computation after a few steps, where the accuracy of a small run shows nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import permutation_test

from benchmarks.gate.pairs import Row, done, match, require_one_fingerprint, setting
from results import Record
from results.metrics import phase_peak_bytes, wall_seconds
from results.record import COST, PHASES

STATUSES = ("regression", "warning", "improvement", "new", "ok")
_PROMPTS = ("prompt_hash",)
_TRAINING = ("train_documents", "train_hash", "train_tokens", "truncated")
_TIMED = ("allocate", "train", "evaluate")  # loading depends on what the disk has cached


@dataclass(frozen=True, kw_only=True)
class Limits:
    """From where on a change counts; fractions, not percent."""

    reference: str = "lora"
    memory: float = 0.02  # of a phase's peak
    memory_warning: float = 0.005
    accuracy: float = 0.005  # of the macro mean, as the difference to the reference
    p: float = 0.01  # one-sided, over documents; both have to be passed
    time: float = 0.15  # of a phase's seconds over the reference's
    time_spread: float = 0.5  # that a row with one repeat is taken to have; rows with several show their own
    shortest_seconds: float = 2.0  # a phase shorter than this is not timed
    loss: float = 0.002  # of the mean training loss over the second half of the steps; five times where no run repeats
    allow_missing: bool = False  # missing and failed rows are warnings


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check says of one row."""

    row: str
    check: str
    status: str  # one of STATUSES
    base: str = ""
    new: str = ""
    change: str = ""
    detail: str = ""


def compare(base: Sequence[Record], new: Sequence[Record], limits: Limits) -> list[Finding]:
    """Every finding, row by row. Raises RefusedError when the fingerprints of the two sides differ."""
    rows = match(base, new)
    require_one_fingerprint(base, new)
    findings = []
    for label, row in rows.items():
        findings.append(_job(label, row, limits))
        if row.pairs:
            reference = _reference(row, rows, limits)
            found = [
                *_exact_checks(row),
                *(_memory(row, phase, limits) for phase in PHASES),
                _accuracy(row, reference, limits),
                _loss(row, limits),
                *(_time(row, reference, phase, limits) for phase in _TIMED),
            ]
            findings += [Finding(row=label, **f) for f in found if f is not None]
    return findings


# The checks: each returns the fields of a Finding, or None where there is nothing to check.


def _job(label: str, row: Row, limits: Limits) -> Finding:
    """Whether every job that was finished in BASE is finished in NEW."""
    lost = [seed for seed in done(row.base) if seed not in done(row.new)]
    failed = [f"seed {s} failed: {r.error}" for s, r in sorted(row.new.items()) if r.status != "done"]
    found = dict(row=label, check="job", base=_counted(row.base), new=_counted(row.new), detail="; ".join(failed))
    if not row.base:
        return Finding(status="warning" if failed else "new", **{**found, "detail": found["detail"] or "only in NEW"})
    if lost:
        missing = [seed for seed in lost if seed not in row.new]
        if missing:
            why = f"seeds {', '.join(map(str, missing))} are missing in NEW; with another default of a hyperparameter"
            found["detail"] = "; ".join([*failed, f"{why} they stand under a new row"])
        return Finding(status="warning" if limits.allow_missing else "regression", **found)
    if failed:
        return Finding(status="warning", **found)
    return Finding(status="improvement" if len(done(row.new)) > len(done(row.base)) else "ok", **found)


def _exact_checks(row: Row) -> list[dict[str, str] | None]:
    return [
        _exact(row, "trainable parameters", lambda r: {"trainable": getattr(r.parameters, "trainable", None)}),
        _exact(row, "adapter bytes", lambda r: {"adapter_bytes": getattr(r.parameters, "adapter_bytes", None)}),
        _exact(row, "allocation", _allocation, absent=0),
        _exact(row, "prompts", lambda r: _entries(r, _PROMPTS)),
        _exact(row, "training data", lambda r: _entries(r, _TRAINING)),
    ]


_ABSENT = "nothing"


def _exact(
    row: Row, check: str, get: Callable[[Record], Mapping[str, Any]], absent: Any = _ABSENT
) -> dict[str, str] | None:
    """Values by name have to be equal. A name that one side lacks counts as `absent`.

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


def _memory(row: Row, phase: str, limits: Limits) -> dict[str, str] | None:
    old, now = _medians(row, lambda record: phase_peak_bytes(record, phase))
    if not old:
        return None  # the platform does not tell
    if now is None:
        return dict(check=f"memory {phase}", status="regression", detail="no longer measured")
    change = now / old - 1
    status = _judge(change, limits.memory, limits.memory_warning)
    return dict(
        check=f"memory {phase}", status=status, base=f"{old / 1e6:,.1f} MB", new=f"{now / 1e6:,.1f} MB",
        change=_percent(change),
    )  # fmt: skip


def _accuracy(row: Row, reference: Row | None, limits: Limits) -> dict[str, str] | None:
    """The macro mean, as the difference to the reference (its own where there is none), over paired documents."""
    if row.spec.protocol == COST:
        return None  # nothing was scored
    changes = _outcome_changes(row)
    own = _macro(changes)
    others = None if reference is None or reference is row else _outcome_changes(reference)
    if others is not None:
        changes = [change - other for change, other in zip(changes, others, strict=True)]
    value = _macro(changes)
    p = paired_p(changes)
    status = "ok"
    if abs(value) > limits.accuracy and p < limits.p:
        status = "regression" if value < 0 else "improvement"
    elif _repeatable(row) and any(np.any(change) for change in _outcome_changes(row)):
        status = "warning"  # too little to judge, and yet the same code answers the same
    which = "its own" if others is None else f"against {limits.reference}; its own {_points(own)}"
    old, now = (statistics.fmean(_accuracies(pair[i] for pair in row.pairs)) for i in (0, 1))
    return dict(
        check="accuracy", status=status, base=f"{100 * old:.2f}", new=f"{100 * now:.2f}", change=_points(value),
        detail=f"{which}; p = {p:.2g}; {sum(np.count_nonzero(c) for c in changes)} documents changed",
    )  # fmt: skip


def paired_p(changes: Sequence[np.ndarray]) -> float:
    """One-sided p of the mean over tasks of the mean over documents, in the direction in which it lies.

    changes: one array (documents,) a task. Under the null each document's change is as likely to have the other sign;
    tasks keep their weights, so the test is stratified by task.
    """
    weighted = np.concatenate([change / len(change) for change in changes])
    weighted = weighted[np.abs(weighted) > 1e-12]  # what did not change cannot change sign
    if not len(weighted):
        return 1.0
    nothing = np.zeros_like(weighted)
    result = permutation_test(
        (weighted, nothing),
        lambda a, b, axis: np.sum(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        batch=200,
        alternative="less" if weighted.sum() < 0 else "greater",
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def _loss(row: Row, limits: Limits) -> dict[str, str] | None:
    pairs = [(b.losses, n.losses or ()) for b, n in row.pairs if b.losses]
    if not pairs:
        return None  # nothing was trained
    if not all(new for _, new in pairs):
        return dict(check="training loss", status="regression", detail="nothing was trained")
    old, now = (statistics.fmean(statistics.fmean(p[i][len(p[i]) // 2 :]) for p in pairs) for i in (0, 1))
    change = now / old - 1
    repeatable = _repeatable(row)
    status, detail = _judge(change, limits.loss if repeatable else 5 * limits.loss), ""
    if status == "ok" and repeatable and any(b != n for b, n in pairs):
        status, detail = "warning", "not equal bit for bit: the computation has changed"
    return dict(
        check="training loss", status=status, base=f"{old:.5f}", new=f"{now:.5f}", change=_percent(change),
        detail=detail,
    )  # fmt: skip


def _repeatable(row: Row) -> bool:
    """Whether the same code gives the same losses and outcomes bit for bit."""
    return all(r.environment.get("deterministic") is not False for pair in row.pairs for r in pair)


def _time(row: Row, reference: Row | None, phase: str, limits: Limits) -> dict[str, str] | None:
    """Seconds of a phase over those of the reference's whole job in the same sitting."""
    if reference is None or reference is row or not reference.pairs:
        return None
    seconds = _medians(row, lambda r: wall_seconds(r, phase))
    if None in seconds or max(s for s in seconds if s is not None) < limits.shortest_seconds:
        return None
    old, now = (_ratios(row, reference, phase, side) for side in (0, 1))
    change = statistics.median(now) / statistics.median(old) - 1
    status, detail = _judge(change, limits.time), f"{seconds[0]:.1f} s -> {seconds[1]:.1f} s"
    if status in ("regression", "improvement"):
        if len(old) > 1 and len(now) > 1:
            outside = min(now) > max(old) or max(now) < min(old)
        else:
            outside = change > limits.time_spread or change < 1 / (1 + limits.time_spread) - 1
        if not outside:
            status, detail = "ok", f"{detail}; within the spread of repeats"
    return dict(
        check=f"time {phase}", status=status, base=f"{statistics.median(old):.3f} x {limits.reference}",
        new=f"{statistics.median(now):.3f} x {limits.reference}", change=_percent(change), detail=detail,
    )  # fmt: skip


def _judge(change: float, limit: float, warning: float | None = None) -> str:
    """Of a relative change of something that should not grow."""
    if change > limit:
        return "regression"
    if warning is not None and change > warning:
        return "warning"
    return "improvement" if change < -limit else "ok"


def _reference(row: Row, rows: Mapping[str, Row], limits: Limits) -> Row | None:
    """The finished row of the reference method with the same setting; of several the one of the row's learning rate."""
    alike = [r for r in rows.values() if r.spec.method == limits.reference and setting(r.spec) == setting(row.spec)]
    found = [r for r in alike if r.pairs]
    return min(found, key=lambda r: r.spec.learning_rate != row.spec.learning_rate, default=None)


def _outcome_changes(row: Row) -> list[np.ndarray]:
    """New minus base for each document, averaged over seeds; one array a task."""
    changes = []
    for task in row.spec.tasks:
        seeds = [np.subtract((n.scores or {})[task].outcomes, (b.scores or {})[task].outcomes) for b, n in row.pairs]
        changes.append(np.mean(seeds, axis=0))
    return changes


def _accuracies(records: Any) -> list[float]:
    return [statistics.fmean(s.value for s in (r.scores or {}).values()) for r in records]


def _ratios(row: Row, reference: Row, phase: str, side: int) -> list[float]:
    """Of every seed, over the reference's same seed or, where it has none, its median."""
    whole = {
        pair[side].spec.seed: sum(pair[side].costs[p].wall_seconds for p in _TIMED if p in pair[side].costs)
        for pair in reference.pairs
    }
    usual = statistics.median(whole.values())
    return [p[side].costs[phase].wall_seconds / whole.get(p[side].spec.seed, usual) for p in row.pairs]


def _medians(row: Row, get: Callable[[Record], float | None]) -> tuple[float | None, float | None]:
    """(base, new) over the seeds finished on both sides; None for a side on which a record has no value."""
    old, now = ([value for pair in row.pairs if (value := get(pair[side])) is not None] for side in (0, 1))
    return tuple(statistics.median(v) if len(v) == len(row.pairs) else None for v in (old, now))  # type: ignore


def _macro(changes: Sequence[np.ndarray]) -> float:
    return float(np.mean([change.mean() for change in changes]))


def _entries(record: Record, names: Sequence[str]) -> dict[str, Any]:
    """What the record says of its tasks' data under these names, as "task name"."""
    tasks = {task: entry for task, entry in record.data.items() if isinstance(entry, Mapping)}
    return {f"{task} {name}": entry[name] for task, entry in tasks.items() for name in names if name in entry}


def _allocation(record: Record) -> dict[str, int]:
    """Experts by block; a job with an adapter for each task has them by task and block."""
    adapters = record.facts.get("adapters") or {"": record.facts}
    return {f"{t} {b}".strip(): n for t, facts in adapters.items() for b, n in (facts.get("experts") or {}).items()}


def _counted(records: Mapping[int, Record]) -> str:
    finished = len(done(records))
    failed = f", {len(records) - finished} failed" if len(records) > finished else ""
    return f"{finished} done{failed}" if records else "none"


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _sum(values: Mapping[str, Any]) -> str:
    return f"{sum(values.values()):,}" if all(isinstance(v, int) for v in values.values()) else ""


def _percent(change: float) -> str:
    return f"{100 * change:+z.2f}%"


def _points(value: float) -> str:
    return f"{100 * value:+z.2f} points"
