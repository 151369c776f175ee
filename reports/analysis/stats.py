"""The statistics behind every table: pure functions on arrays, no records, no drawing.

Documents are the unit of sampling, tasks are strata, methods answer the same documents. So a difference between two
methods is judged on the differences of single documents, which removes the documents' difficulty from the noise.

An array of outcomes is (documents,) with values in [0, 1]; averaging it over seeds first is fine for every function.
Intervals speak of documents only: what another seed would have given shows in the standard deviation over seeds.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.stats import binomtest, norm
from scipy.stats import t as student
from statsmodels.stats.multitest import multipletests

ALPHA = 0.05  # two-sided
POWER = 0.8
Name = TypeVar("Name", bound=Hashable)
MOST = 1e15  # documents or seeds; beyond it floats are no longer whole numbers


@dataclass(frozen=True)
class Difference:
    """A paired difference of macro means, method minus reference, in fractions.

    What the documents cannot tell (a task with a single document has no spread) is None.
    """

    value: float
    stderr: float | None
    low: float | None  # 95% interval
    high: float | None
    p: float | None  # two-sided


def seed_summary(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation (n - 1) over seeds; the deviation of a single seed is None."""
    array = np.asarray(values, dtype=float)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None


def standard_error(outcomes: np.ndarray) -> float | None:
    """Return standard error of the mean of `outcomes` (documents,); None below two documents."""
    n = len(outcomes)
    return float(np.std(outcomes, ddof=1) / math.sqrt(n)) if n > 1 else None


def macro_standard_error(errors: Sequence[float | None]) -> float | None:
    """sqrt(sum se^2) / n over n independent tasks; None when one of them is not known.

    lm-eval's group standard error pools the documents instead, which belongs to the micro mean.
    """
    known = [e for e in errors if e is not None]
    if not known or len(known) != len(errors):
        return None
    return math.sqrt(sum(e * e for e in known)) / len(known)


def interval(mean: float, stderr: float | None) -> tuple[float, float] | None:
    """95% interval of a mean of fractions, normal approximation, kept within [0, 1]; None without a standard error."""
    if stderr is None:
        return None
    margin = float(norm.ppf(1 - ALPHA / 2)) * stderr
    return max(0.0, mean - margin), min(1.0, mean + margin)


def paired_bootstrap(differences: Sequence[np.ndarray], resamples: int = 10_000, seed: int = 0) -> Difference:
    """Interval and p-value of the mean over tasks of the mean over documents, resampled within each task.

    differences: one array a task, outcome of the method minus outcome of the reference for each document.
    A resample draws n - 1 of n documents, which makes its variance the unbiased s^2 / n (Rao and Wu, 1988). Equal
    differences are interchangeable, so their counts are drawn at once from a multinomial. p is the share of
    resamples, moved to a mean of zero, that lie at least as far out as what was seen.
    """
    value = float(np.mean([d.mean() for d in differences]))
    if any(len(d) < 2 for d in differences):
        return Difference(value, None, None, None, None)
    generator = np.random.default_rng(seed)
    means = np.zeros(resamples)
    for task in differences:
        levels, counts = np.unique(np.round(task, 12), return_counts=True)
        draws = generator.multinomial(len(task) - 1, counts / len(task), size=resamples)
        means += draws @ levels / (len(task) - 1)
    means /= len(differences)
    extreme = np.count_nonzero(np.abs(means - value) >= abs(value) - 1e-12)
    low, high = np.quantile(means, [ALPHA / 2, 1 - ALPHA / 2])
    errors = [standard_error(d) for d in differences]
    return Difference(value, macro_standard_error(errors), float(low), float(high), (extreme + 1) / (resamples + 1))


def mcnemar(differences: np.ndarray) -> float:
    """Exact two-sided McNemar p of one task from its documents' differences (documents,).

    Only documents that one method gets right and the other wrong count; under the null each falls to either side
    like a coin. Averaged over several seeds this is the sign test, of which McNemar's is the case of one seed.
    """
    better = int(np.count_nonzero(differences > 1e-12))
    worse = int(np.count_nonzero(differences < -1e-12))
    return float(binomtest(better, better + worse, 0.5).pvalue) if better + worse else 1.0


def holm(p_values: Mapping[Name, float | None]) -> dict[Name, float | None]:
    """Holm's adjustment over methods: the chance of even one false finding stays below alpha. None stays None."""
    known = {name: p for name, p in p_values.items() if p is not None}
    if not known:
        return dict(p_values)
    gc.freeze()  # it collects garbage at every call: a tenth of a second and more, over all that lies there already
    try:
        adjusted = multipletests(list(known.values()), alpha=ALPHA, method="holm")[1]
    finally:
        gc.unfreeze()
    return {**p_values, **dict(zip(known, map(float, adjusted), strict=True))}


def max_t(
    outcomes: Sequence[np.ndarray], pairs: Sequence[tuple[int, int]], draws: int = 10_000, seed: int = 0
) -> list[float | None]:
    """Two-sided p-value of each pair's difference of macro means, adjusted over all of `pairs` by single-step max-T.

    outcomes: one (methods, documents) a task; pairs: indices of methods. This is for a reference that the same
    documents picked, such as the best: its pairs are chosen among all. For independent means of equal variance it is
    Tukey's range test. Here the means are drawn together with the covariance they have over documents (a Gaussian
    multiplier a document: Chernozhukov, Chetverikov and Kato, 2013), and p = (1 + draws whose largest
    |difference| / standard error of any pair is at least the pair's own) / (1 + draws) (Westfall and Young, 1993). The
    standard error is stratified by task; as it is estimated, a pair's ratio is first taken from Student's distribution
    to the normal. With a single document in a task every p is None.
    """
    if any(task.shape[1] < 2 for task in outcomes):
        return [None] * len(pairs)
    generator = np.random.default_rng(seed)
    means = np.mean([task.mean(axis=1) for task in outcomes], axis=0)
    centred = [task - task.mean(axis=1, keepdims=True) for task in outcomes]
    scaled = np.hstack([c / (math.sqrt(c.shape[1] * (c.shape[1] - 1)) * len(outcomes)) for c in centred])
    freedom = scaled.shape[1] - len(outcomes)
    drawn = np.zeros((len(scaled), draws))
    for start in range(0, scaled.shape[1], 500):
        block = scaled[:, start : start + 500]
        drawn += block @ generator.standard_normal((block.shape[1], draws))
    largest = np.zeros(draws)
    seen: list[float] = []
    for one, other in pairs:
        value, stderr = abs(means[one] - means[other]), float(np.linalg.norm(scaled[one] - scaled[other]))
        if stderr > 1e-9:
            np.maximum(largest, np.abs(drawn[one] - drawn[other]) / stderr, out=largest)
        ratio = value / stderr if stderr > 1e-9 else math.inf if value > 1e-9 else 0.0
        seen.append(float(norm.isf(student.sf(ratio, freedom))))
    return [(1 + int(np.count_nonzero(largest >= ratio - 1e-9))) / (1 + draws) for ratio in seen]


def minimum_detectable(
    stderr: float, alpha: float = ALPHA, power: float = POWER, freedom: float = math.inf, tests: int = 1
) -> float:
    """Smallest true difference that a two-sided test finds with this power: (critical value + z_b) * stderr.

    freedom: degrees of freedom of a t test; inf: normal. tests: over which Holm adjusts, whose first step it is.
    """
    return float((student.ppf(1 - alpha / (2 * tests), freedom) + norm.ppf(power)) * stderr)


def power_of(difference: float, stderr: float, alpha: float = ALPHA) -> float:
    """Chance that a true `difference` is found by a two-sided test of size alpha with this standard error."""
    z = norm.ppf(1 - alpha / 2)
    return float(norm.cdf(difference / stderr - z) + norm.cdf(-difference / stderr - z))


def documents_needed(
    difference: float,
    discordance: float,
    seeds: int | None = None,
    seed_deviation: float = 0.0,
    alpha: float = ALPHA,
    power: float = POWER,
) -> int | None:
    """Documents, over all tasks in equal shares, at which a true `difference` is found with this power.

    discordance: share of documents that exactly one of the two methods gets right. With `seeds` runs of each method
    whose macro means vary by `seed_deviation`, the claim is about the method and not about the trained models:
    2 * deviation^2 / seeds is added to the variance, and None means that no number of documents is enough.
    """
    if not 0 < difference <= 1 or not difference <= discordance <= 1:
        raise ValueError(f"need 0 < difference <= discordance <= 1, got {difference} and {discordance}")
    z = norm.ppf(1 - alpha / 2) + norm.ppf(power)
    left = (difference / z) ** 2 - (2 * seed_deviation**2 / seeds if seeds else 0.0)
    return None if left <= 0 else _count((discordance - difference**2) / left)


def seeds_needed(difference: float, seed_deviation: float, alpha: float = ALPHA, power: float = POWER) -> int:
    """Seeds of each method at which variation between seeds alone would still leave this power."""
    z = norm.ppf(1 - alpha / 2) + norm.ppf(power)
    return _count(2 * (seed_deviation * z / difference) ** 2)


def _count(value: float) -> int:
    """Round up to a whole number, at least 1. Raises ValueError for one that nobody could collect."""
    if not value <= MOST:
        raise ValueError(f"more than {MOST:.0e} documents or seeds would be needed")
    return max(1, math.ceil(value))
