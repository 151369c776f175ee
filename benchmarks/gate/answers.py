"""What the two sides answered, document by document, and how likely the right choices were to them.

On a device that repeats, the same code gives the same numbers, so anything else is a change of the computation: a
regression, unless it was declared by a new baseline. Elsewhere the mean log-likelihood is judged beside the accuracy.
"""

from __future__ import annotations

import numpy as np

from benchmarks.gate.findings import Limits
from benchmarks.gate.pairs import Row, is_repeatable
from benchmarks.gate.relative import macro, paired_p
from results import Score

SHOWN = 3  # documents that are named


def check_answers(row: Row, limits: Limits) -> dict[str, str] | None:
    """Require the same outcomes and written answers, and log-likelihoods within the tolerance, where runs repeat."""
    if not row.spec.scored or not is_repeatable(row):
        return None
    total, changed, farthest = 0, [], 0.0
    for base, new in row.pairs:
        for task in base.scores or {}:
            old, now = (base.scores or {})[task], (new.scores or {})[task]
            distance = loglikelihood_distance(old, now)
            farthest = max(farthest, float(distance.max(initial=0.0)))
            differs = np.not_equal(old.outcomes, now.outcomes) | (distance > limits.tolerance)
            if old.answers is not None and now.answers is not None:
                differs |= np.array([a != b for a, b in zip(old.answers, now.answers, strict=True)], dtype=bool)
            total += old.count
            changed += [f"{task} {old.documents[i]}" for i in np.flatnonzero(differs)]
    if not changed:
        return dict(check="answers", status="ok")
    names = ", ".join(changed[:SHOWN]) + (f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else "")
    declare = "" if limits.declared else "; where it is meant to, declare it by a new baseline"
    return dict(
        check="answers", status="warning" if limits.declared else "regression",
        change=f"{len(changed)} of {total} documents",
        detail=f"the computation has changed: {names}; log-likelihoods by up to {farthest:.2g}{declare}",
    )  # fmt: skip


def check_loglikelihood(row: Row, reference: Row | None, limits: Limits) -> dict[str, str] | None:
    """Judge the mean log-likelihood of the right choice as the difference to the reference, over paired documents."""
    pairs = right_choices(row)
    if pairs is None:
        return None
    old, now = (macro([side[i] for side in pairs]) for i in (0, 1))
    changes = [new - base for base, new in pairs]
    others = None if reference is None or reference is row else right_choices(reference)
    if others is not None:
        changes = [c - (new - base) for c, (base, new) in zip(changes, others, strict=True)]
    value, p = macro(changes), paired_p(changes)
    status = "ok"
    if abs(value) > limits.loglikelihood and p < limits.p:
        status = "regression" if value < 0 else "improvement"
    which = "its own" if others is None or reference is None else f"against {reference.spec.method}"
    return dict(
        check="log-likelihood", status=status, base=f"{old:.4f}", new=f"{now:.4f}", change=f"{value:+.4f}",
        detail=f"nats of the right choice, {which}; p = {p:.2g}",
    )  # fmt: skip


def right_choices(row: Row) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Return (base, new) log-likelihoods of each document's right choice, the mean over seeds, for each task.

    Documents without a single right choice are left out. None where the records hold no choices.
    """
    tasks = []
    for task in row.spec.trained_tasks if row.spec.scored else ():
        sides = [[_right((pair[i].scores or {})[task]) for pair in row.pairs] for i in (0, 1)]
        measured = [[right for right in side if right is not None] for side in sides]
        if len(measured[0]) == len(measured[1]) == len(row.pairs):
            base, new = (np.mean(values, axis=0) for values in measured)
            tasks.append((base, new))
    return [pair for pair in tasks if pair[0].size] or None


def loglikelihood_distance(old: Score, now: Score) -> np.ndarray:
    """Return each document's largest absolute difference over its choices, 0 where a side holds none: (documents,)."""
    if old.loglikelihoods is None or now.loglikelihoods is None:
        return np.zeros(old.count)
    return np.array(
        [
            max((abs(a - b) for a, b in zip(before, after, strict=True)), default=0.0)
            if len(before) == len(after)
            else np.inf
            for before, after in zip(old.loglikelihoods, now.loglikelihoods, strict=True)
        ]
    )


def _right(score: Score) -> np.ndarray | None:
    if score.loglikelihoods is None or score.gold is None:
        return None
    pairs = zip(score.loglikelihoods, score.gold, strict=True)
    return np.array([values[gold] for values, gold in pairs if gold is not None])
