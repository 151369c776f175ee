"""Accuracy and time, judged relative to the reference method of the same side.

A library or a busy machine moves all methods together; the reference itself has only its own past to be judged by. The
accuracy test is scipy's paired permutation test, exact where few documents changed. It asks another question than the
reports' intervals do (one-sided, of a difference of differences), so no formula of `reports` stands here twice.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import permutation_test

from benchmarks.gate.findings import Limits, judge, percent, points
from benchmarks.gate.pairs import IncomparableError, Row, medians
from results.comparable import comparison_key
from results.metrics import wall_seconds
from results.names import unknown

DEFAULT_REFERENCE = "lora"
TIMED = ("allocate", "train", "evaluate")  # loading depends on what the disk has cached


def require_reference(rows: Mapping[str, Row], limits: Limits) -> None:
    """Raise IncomparableError where a reference was named that has no row finished on both sides."""
    finished = {row.spec.method for row in rows.values() if row.pairs}
    if limits.reference is not None and limits.reference not in finished:
        raise IncomparableError(str(unknown("reference", limits.reference, finished)))


def reference_row(row: Row, rows: Mapping[str, Row], limits: Limits) -> Row | None:
    """Find the finished row of the reference with the same setting; of several the one of the row's learning rate."""
    key, name = comparison_key(row.spec), limits.reference or DEFAULT_REFERENCE
    references = [r for r in rows.values() if r.spec.method == name and comparison_key(r.spec) == key]
    return min(
        (r for r in references if r.pairs), key=lambda r: r.spec.learning_rate != row.spec.learning_rate, default=None
    )


def check_accuracy(row: Row, reference: Row | None, limits: Limits) -> dict[str, str] | None:
    """Judge the macro mean, as the difference to the reference (its own where there is none), over paired documents."""
    if not row.spec.scored:
        return None  # nothing was scored
    changes = outcome_changes(row)
    change_alone = macro(changes)
    others = None if reference is None or reference is row else outcome_changes(reference)
    if others is not None:
        changes = [change - other for change, other in zip(changes, others, strict=True)]
    value = macro(changes)
    p = paired_p(changes)
    status = "ok"
    if abs(value) > limits.accuracy and p < limits.p:
        status = "regression" if value < 0 else "improvement"
    which = "its own"
    if others is not None and reference is not None:
        which = f"against {reference.spec.method}; its own {points(change_alone)}"
    old, now = (statistics.fmean(_accuracies(pair[i] for pair in row.pairs)) for i in (0, 1))
    return dict(
        check="accuracy", status=status, base=f"{100 * old:.2f}", new=f"{100 * now:.2f}", change=points(value),
        detail=f"{which}; p = {p:.2g}; {sum(np.count_nonzero(c) for c in changes)} documents changed",
    )  # fmt: skip


def paired_p(changes: Sequence[np.ndarray]) -> float:
    """Compute the one-sided p of the mean over tasks of the mean over documents, in the direction in which it lies.

    changes: one array (documents,) a task. Under the null each document's change is as likely to have the other sign;
    tasks keep their weights, so the test is stratified by task.
    """
    weighted = np.concatenate([change / len(change) for change in changes])
    weighted = weighted[np.abs(weighted) > 1e-12]  # what did not change cannot change sign
    if not len(weighted):
        return 1.0
    if len(weighted) == 1:
        return 0.5  # one sign, either way; scipy wants two observations
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


def check_time(row: Row, reference: Row | None, phase: str, limits: Limits) -> dict[str, str] | None:
    """Judge seconds of a phase over those of the reference's whole job in the same session."""
    if reference is None or reference is row or not reference.pairs:
        return None
    seconds = medians(row, lambda r: wall_seconds(r, phase))
    if None in seconds or max(s for s in seconds if s is not None) < limits.shortest_seconds:
        return None
    old, now = (_ratios(row, reference, phase, side) for side in (0, 1))
    change = statistics.median(now) / statistics.median(old) - 1
    status, detail = judge(change, limits.time), f"{seconds[0]:.1f} s -> {seconds[1]:.1f} s"
    if status in ("regression", "improvement"):
        if len(old) > 1 and len(now) > 1:
            outside = min(now) > max(old) or max(now) < min(old)
        else:
            outside = change > limits.time_spread or change < 1 / (1 + limits.time_spread) - 1
        if not outside:
            status, detail = "ok", f"{detail}; within the spread of repeats"
    return dict(
        check=f"time {phase}", status=status, base=f"{statistics.median(old):.3f} x {reference.spec.method}",
        new=f"{statistics.median(now):.3f} x {reference.spec.method}", change=percent(change), detail=detail,
    )  # fmt: skip


def _ratios(row: Row, reference: Row, phase: str, side: int) -> list[float]:
    """Divide the seconds of every seed by the reference's same seed or, where it has none, its median."""
    whole = {
        pair[side].spec.seed: sum(pair[side].costs[p].wall_seconds for p in TIMED if p in pair[side].costs)
        for pair in reference.pairs
    }
    usual = statistics.median(whole.values())
    return [p[side].costs[phase].wall_seconds / whole.get(p[side].spec.seed, usual) for p in row.pairs]


def outcome_changes(row: Row) -> list[np.ndarray]:
    """Subtract base from new, for each document, averaged over seeds; one array a task."""
    changes = []
    for task in row.spec.tasks:
        seeds = [np.subtract((n.scores or {})[task].outcomes, (b.scores or {})[task].outcomes) for b, n in row.pairs]
        changes.append(np.mean(seeds, axis=0))
    return changes


def _accuracies(records: Any) -> list[float]:
    return [statistics.fmean(s.value for s in (r.scores or {}).values()) for r in records]


def macro(changes: Sequence[np.ndarray]) -> float:
    """Average over documents within each task, then over tasks."""
    return float(np.mean([change.mean() for change in changes]))
