"""What is measured of each document, and in how many words: accuracy, learning, choosing, and the loss in passing.

Declared beforehand: accuracy is the headline of every table; bits per byte is the primary measure of learning, the
margin the primary measure of choosing. The others are looked at, and no verdict rests on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from reports.analysis import stats
from reports.analysis.rows import Row, finished
from results.metrics import bits_of_choices, bits_per_byte, margin_per_byte
from results.record import Record, Score


@dataclass(frozen=True)
class Measure:
    """One number a document, from a task's score."""

    name: str
    label: str
    sentence: str  # for somebody who is no statistician
    how: str  # it is averaged, and what it is declared for
    higher: bool  # whether higher is better
    scale: float  # of what is shown over what is computed
    format: str
    unit: str
    of: Callable[[Score], np.ndarray | None]  # (documents,); None where the score holds no choices


def _array(of: Callable[[Score], list[float] | None]) -> Callable[[Score], np.ndarray | None]:
    return lambda score: None if (numbers := of(score)) is None else np.array(numbers)


def _beliefs(score: Score) -> list[tuple[np.ndarray, int]] | None:
    """(share of belief of every choice, right one) of each document that has a single right choice."""
    if score.loglikelihoods is None or score.gold is None:
        return None
    documents = zip(score.loglikelihoods, score.gold, strict=True)
    return [(softmax(np.array(values)), gold) for values, gold in documents if gold is not None]


def _probability(score: Score) -> list[float] | None:
    documents = _beliefs(score)
    return None if documents is None else [float(shares[gold]) for shares, gold in documents]


def _brier(score: Score) -> list[float] | None:
    documents = _beliefs(score)
    if documents is None:
        return None
    return [float(((shares - np.eye(len(shares))[gold]) ** 2).sum()) for shares, gold in documents]


ACCURACY = Measure(
    "accuracy", "Accuracy", "The share of questions answered rightly, as lm-evaluation-harness scores them.",
    "Mean over tasks of the share of right answers, in points.",
    True, 100, "+z.1f", "points", lambda score: np.array(score.outcomes, dtype=float),
)  # fmt: skip
LEARNING = Measure(
    "bits_per_byte", "Bits per byte", "How surprising the right answers are to the model: fewer bits, more learned.",
    "Primary measure of learning: bits a byte of the right answer, mean over documents and tasks.",
    False, 1, "+z.4f", "bits", _array(bits_per_byte),
)  # fmt: skip
CHOOSING = Measure(
    "margin_per_byte", "Margin per byte",
    "How far the right answer lies above the best wrong one: whether the model tells them apart.",
    "Primary measure of choosing: bits a byte of the right answer above the best wrong one.",
    True, 1, "+z.4f", "bits", _array(margin_per_byte),
)  # fmt: skip
PROBABILITY = Measure(
    "probability", "Probability", "The share of its belief that a model gives the right answer among those offered.",
    "Mean over documents and tasks, in points; no verdict rests on it.",
    True, 100, "+z.2f", "points", _array(_probability),
)  # fmt: skip
BRIER = Measure(
    "brier", "Brier score", "The squared distance of those shares from all on the right answer.",
    "Mean over documents and tasks, from 0 to 2; no verdict rests on it.",
    False, 1, "+z.4f", "", _array(_brier),
)  # fmt: skip
MEASURES = (ACCURACY, LEARNING, CHOOSING, PROBABILITY, BRIER)
HEADLINES = (ACCURACY, LEARNING, CHOOSING)


def values(records: Sequence[Sequence[Record]], tasks: Sequence[str], measure: Measure) -> list[np.ndarray] | None:
    """Return one array (methods, seeds, documents) a task; None where a record cannot give the measure.

    records: the finished records of each method, its seeds in one order for all.
    """
    arrays = []
    for task in tasks:
        by_method = [[measure.of((record.scores or {})[task]) for record in of_method] for of_method in records]
        if any(array is None for of_method in by_method for array in of_method):
            return None
        arrays.append(np.array(by_method, dtype=float))
    return arrays if all(array.shape[2] for array in arrays) else None


def measure_rows(rows: Iterable[Row], tasks: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row a finished method, task and measure, and "macro" over the tasks, in the unit of the measure.

    Of each document the mean over the method's seeds is taken; `stderr` is over documents. What a record cannot give,
    or not for every task, has no row.
    """
    made: list[dict[str, Any]] = []
    for row in finished(rows):
        for measure in MEASURES:
            by_task: dict[str, tuple[int, float, float | None]] = {}
            for task in tasks:
                if (arrays := values([row.done], [task], measure)) is not None:
                    documents = arrays[0][0].mean(axis=0)
                    by_task[task] = len(documents), float(documents.mean()), stats.standard_error(documents)
            if tasks and len(by_task) == len(tasks):
                counts, means, errors = zip(*by_task.values(), strict=True)
                by_task["macro"] = sum(counts), float(np.mean(means)), stats.macro_standard_error(errors)
            seeds = " ".join(map(str, row.seeds))
            made += [
                {"method": row.label, "task": task, "measure": measure.name, "seeds": seeds, "documents": count,
                 "value": value, "stderr": stderr}
                for task, (count, value, stderr) in by_task.items()
            ]  # fmt: skip
    return made


def chance(score: Score) -> float | None:
    """Return the accuracy of guessing among the choices; None for a task without choices."""
    documents = bits_of_choices(score)
    return float(np.mean([1 / len(bits) for bits, _ in documents])) if documents else None


def majority(score: Score) -> float | None:
    """Return the accuracy of always giving the commonest answer; None where answers are not the same two."""
    if not has_fixed_answers(score):
        return None
    gold = [right for _, right in bits_of_choices(score) or ()]
    return float(np.bincount(gold).max() / len(gold)) if gold else None


def balanced_accuracy(score: Score) -> float | None:
    """Return the mean over the right answers of the accuracy where they are right; None as for `majority`."""
    if not has_fixed_answers(score) or score.gold is None:
        return None
    gold, outcomes = np.array(score.gold, dtype=float), np.array(score.outcomes)
    return float(np.mean([outcomes[gold == answer].mean() for answer in np.unique(gold[~np.isnan(gold)])]))


def has_fixed_answers(score: Score) -> bool:
    """Whether all documents offer the same two answers, as yes and no: two choices of sizes that never change."""
    sizes = set(score.choice_bytes or ())
    return len(sizes) == 1 and len(next(iter(sizes))) == 2 and score.count > 1
