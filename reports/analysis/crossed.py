"""Two questions, two intervals: do these trained models differ, and do the methods.

Models are compared over documents. Methods are compared over documents and seeds, which cross: every seed of every
method answers the same documents. The mean difference of two methods varies with the documents, with the seeds, and
with what one seed makes of one document:

    Var = SE_doc^2 + max(0, 2 MS / S - V_inter)

SE_doc: standard error over documents of the differences, averaged over the S seeds; MS: residual mean square of the
macro means of all methods of the comparison over methods and seeds, so that a method's seeds are judged with those of
the others and not by two or four degrees of freedom; V_inter: the part of 2 MS / S that documents x seeds explain,
which SE_doc^2 holds already. Degrees of freedom after Satterthwaite. Assumed: seeds move every trained method about
equally. How often this finds what is not there, and what is: `python -m reports simulate`, figures in
reports/README.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from reports.analysis import stats


@dataclass(frozen=True)
class Estimate:
    """A mean difference with its standard error and degrees of freedom, in the unit of the measure."""

    value: float
    stderr: float
    freedom: float

    def interval(self, level: float = 1 - stats.ALPHA) -> tuple[float, float]:
        """Return the two-sided interval of this level."""
        margin = float(student.ppf((1 + level) / 2, self.freedom)) * self.stderr
        return self.value - margin, self.value + margin

    @property
    def p(self) -> float:
        """Two-sided p-value under a true difference of 0."""
        if self.stderr == 0:
            return 1.0 if self.value == 0 else 0.0
        return float(2 * student.sf(abs(self.value) / self.stderr, self.freedom))


@dataclass(frozen=True)
class Spread:
    """Where the variance of a difference between two methods comes from, in the squared unit of the measure."""

    document: float  # of one document, whatever the seed
    both: float  # of one document at one seed
    seed: float  # of one seed, whatever the documents

    def variance(self, documents: int, seeds: int) -> float:
        """Return the variance that so many documents and seeds would leave."""
        return (self.document + self.both / seeds) / documents + self.seed / seeds

    def documents_needed(self, difference: float, seeds: int, tests: int = 1) -> int | None:
        """Count the documents at which a true `difference` is found; None where so few seeds never find it.

        Two-sided test at 5% with power 80%, normal; tests: over which Holm adjusts, whose first step it is.
        """
        left = (difference / stats.minimum_detectable(1.0, tests=tests)) ** 2 - self.seed / seeds
        return None if left <= 0 else max(1, math.ceil((self.document + self.both / seeds) / left))


@dataclass(frozen=True)
class Paired:
    """One difference, asked about the trained models and about the method; None where the data cannot tell."""

    value: float
    models: Estimate | None  # over documents; None with a single document in a task
    method: Estimate | None  # over documents and seeds; None with one seed
    seeds: int
    documents: int
    spread: Spread | None = None  # of `method`


def against(values: Sequence[np.ndarray], reference: int) -> list[Paired]:
    """Compare every method with the one at index `reference`, whose own place holds a difference of 0.

    values: one array (methods, seeds, documents) a task, of any measure; methods, seeds and documents stand in the same
    order everywhere. The difference is the mean over tasks of the mean over documents and seeds.
    """
    tasks = len(values)
    _, seeds, _ = values[0].shape
    documents = sum(v.shape[2] for v in values)
    freedom = documents - tasks
    differences = [v - v[reference] for v in values]
    macro, parts = components(differences)
    of_documents, of_both = parts if parts is not None else (None, None)
    pooled = pooled_seeds(np.mean([v.mean(axis=2) for v in values], axis=0)[None])
    results = []
    for i, value in enumerate(macro):
        models = method = spread = None
        if of_documents is not None:
            models = Estimate(float(value), math.sqrt(of_documents[i]), freedom)
        if of_documents is not None and of_both is not None and pooled is not None:
            of_seeds, seed_freedom = pooled
            others = np.delete(of_both, reference)  # pooled, as the seeds are
            inter = np.array([others.mean() if len(others) else 0.0])
            variance, degrees = combined(of_documents[i : i + 1], of_seeds, inter, freedom, seed_freedom, seeds)
            method = Estimate(float(value), math.sqrt(float(variance[0])), float(degrees[0]))
            spread = _spread(float(of_documents[i]), float(of_seeds[0]), float(inter[0]), documents, seeds)
        results.append(Paired(float(value), models, method, seeds, documents, spread))
    return results


def _spread(of_documents: float, of_seeds: float, of_both: float, documents: int, seeds: int) -> Spread:
    """Take the parts of a variance apart, which hold for the documents and seeds that were measured."""
    return Spread(
        document=documents * max(of_documents - of_both, 0.0),
        both=documents * seeds * of_both,
        seed=seeds * max(of_seeds - of_both, 0.0),
    )


def components(differences: Sequence[np.ndarray]) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray | None] | None]:
    """Return macro means (n,) and, for each, its variance by documents and that by documents x seeds.

    differences: one array (n, seeds, documents) a task. The second variance is None with one seed; both are with a
    task of a single document.
    """
    tasks, seeds = len(differences), differences[0].shape[1]
    value = np.mean([d.mean(axis=(1, 2)) for d in differences], axis=0)
    if any(d.shape[2] < 2 for d in differences):
        return value, None
    over_seeds = [d.mean(axis=1) for d in differences]  # (n, documents)
    of_documents = np.sum([m.var(axis=1, ddof=1) / m.shape[1] for m in over_seeds], axis=0) / tasks**2
    if seeds < 2:
        return value, (of_documents, None)
    of_both = np.zeros(len(value))
    for d, m in zip(differences, over_seeds, strict=True):
        rest = d - m[:, None, :] - d.mean(axis=2, keepdims=True) + d.mean(axis=(1, 2), keepdims=True)
        count = d.shape[2]
        of_both += (rest**2).sum(axis=(1, 2)) / ((seeds - 1) * (count - 1) * count * seeds)
    return value, (of_documents, of_both / tasks**2)


def pooled_seeds(macro: np.ndarray) -> tuple[np.ndarray, int] | None:
    """Return the variance (n,) that seeds give the difference of two methods, and its degrees of freedom.

    macro: (n, methods, seeds) macro means. Methods that no seed moves, such as one that trains nothing, are left out.
    None with one seed, or with fewer than two methods that are moved.
    """
    moved = macro[:, np.ptp(macro, axis=2).max(axis=0) > 0]
    _, methods, seeds = moved.shape
    if seeds < 2:
        return None
    if methods < 2:  # one trained method: its own deviation, which counts once
        return (moved.var(axis=2, ddof=1)[:, 0] / seeds, seeds - 1) if methods else (np.zeros(len(macro)), seeds - 1)
    rest = moved - moved.mean(axis=1, keepdims=True) - moved.mean(axis=2, keepdims=True)
    rest += moved.mean(axis=(1, 2), keepdims=True)
    freedom = (methods - 1) * (seeds - 1)
    return 2 * (rest**2).sum(axis=(1, 2)) / freedom / seeds, freedom


def combined(
    of_documents: np.ndarray,
    of_seeds: np.ndarray,
    of_both: np.ndarray,
    freedom: int,
    seed_freedom: int,
    seeds: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the variance of the difference between two methods and its degrees of freedom, each (n,)."""
    variance = of_documents + np.maximum(of_seeds - of_both, 0.0)
    spread = of_documents**2 / freedom + of_seeds**2 / seed_freedom + of_both**2 / (freedom * (seeds - 1))
    satterthwaite = np.divide(variance**2, spread, out=np.full_like(variance, freedom), where=spread > 0)
    return variance, np.maximum(satterthwaite, seed_freedom)
