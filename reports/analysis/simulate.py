"""How often the comparison of methods finds a difference that is not there, and one that is: simulated.

A made-up evaluation has eight tasks and six methods. A tenth of the documents are volatile: what is answered there
depends on the method (a propensity of its own for each document) and on chance, so that 5% of a method's answers
change with its seed, as in the committed records; the others are always answered alike. Besides, each seed shifts each
method's macro mean by a normal deviate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from reports.analysis.crossed import combined, components, pooled_seeds
from reports.analysis.stats import ALPHA

TASKS, METHODS = 8, 6
VOLATILE = 0.10  # share of the documents
OWN = 0.3  # deviation of a method's propensity on a volatile document
CELLS = 40_000_000  # answers in memory at once

DOCUMENTS = (128, 1600, 8000)
SEEDS = (3, 5)
DEVIATIONS = (0.0, 0.4, 0.8)  # points of the macro mean, over seeds
EFFECTS = (1.0, 2.0)  # points


TESTS = ("models", "pair", "method")  # over documents; and over seeds, of the pair alone or pooled over all methods


@dataclass(frozen=True)
class Rates:
    """Shares of the replicates in which each of `TESTS`, at 5%, rejects."""

    documents: int
    seeds: int
    deviation: float  # points
    effect: float  # points by which every method differs from the reference
    pairs: Mapping[str, float]  # of any one pair
    families: Mapping[str, float]  # of at least one of five pairs, Holm-adjusted


def rates(documents: int, seeds: int, deviation: float, effect: float, replicates: int, seed: int = 0) -> Rates:
    """Simulate one cell of the grid."""
    generator = np.random.default_rng([seed, documents, seeds, int(100 * deviation), int(100 * effect)])
    pairs, families, drawn = np.zeros(len(TESTS)), np.zeros(len(TESTS)), 0
    at_once = max(CELLS // (documents * METHODS * seeds), 1)
    while drawn < replicates:
        n = min(at_once, replicates - drawn)
        drawn += n
        p = p_values(list(_answers(generator, n, documents, seeds, deviation / 100, effect / 100)), documents)
        pairs += (p < ALPHA).mean(axis=1).sum(axis=1)
        families += (p.min(axis=1) * (METHODS - 1) < ALPHA).sum(axis=1)
    shares = (dict(zip(TESTS, (counts / replicates).tolist(), strict=True)) for counts in (pairs, families))
    return Rates(documents, seeds, deviation, effect, *shares)


def p_values(values: list[np.ndarray], documents: int) -> np.ndarray:
    """Return p (tests, methods - 1, n) of every method against the first, for each of `TESTS`.

    values: one array (n, methods, seeds, volatile documents) a task; the other documents are answered alike by all. The
    last of the tests is that of `crossed.against`, for many data sets at once.
    """
    seeds, count = values[0].shape[2], documents // TASKS
    freedom = documents - TASKS
    macro = np.mean([v.sum(axis=3) / count for v in values], axis=0)
    parts = [components([_padded(v[:, i] - v[:, 0], count) for v in values]) for i in range(1, METHODS)]
    variances = [part[1] for part in parts if part[1] is not None]
    inter = [both for _, both in variances if both is not None]
    p = np.empty((len(TESTS), METHODS - 1, len(macro)))
    for i, (value, _) in enumerate(parts):
        of_documents = variances[i][0]
        spreads = [(of_documents, np.full(len(macro), float(freedom)))]
        for together, both in ((macro[:, [0, i + 1]], inter[i]), (macro, np.mean(inter, axis=0))):
            pooled = pooled_seeds(together)
            assert pooled is not None
            spreads.append(combined(of_documents, pooled[0], both, freedom, pooled[1], seeds))
        for test, (variance, degrees) in enumerate(spreads):
            with np.errstate(divide="ignore", invalid="ignore"):
                p[test, i] = 2 * student.sf(np.abs(value) / np.sqrt(variance), degrees)
    return np.nan_to_num(p, nan=1.0)


def grid(replicates: int, effects: tuple[float, ...] = (0.0, *EFFECTS)) -> Iterator[Rates]:
    """Simulate every cell: documents x seeds x deviations x effects."""
    for documents in DOCUMENTS:
        for seeds in SEEDS:
            for deviation in DEVIATIONS:
                for effect in effects:
                    yield rates(documents, seeds, deviation, effect, replicates)


def _answers(
    generator: np.random.Generator, n: int, documents: int, seeds: int, deviation: float, effect: float
) -> Iterator[np.ndarray]:
    """Yield right or wrong (n, methods, seeds, volatile documents), task by task."""
    count = documents // TASKS
    volatile = max(round(VOLATILE * count), 2)
    shift = generator.normal(0, deviation, (n, METHODS, seeds, 1))
    shift[:, 1:] += effect
    for _ in range(TASKS):
        own = np.clip(0.5 + generator.normal(0, OWN, (n, METHODS, 1, volatile)), 0.02, 0.98)
        chance = np.clip(own + shift * count / volatile, 0, 1)
        yield (generator.random((n, METHODS, seeds, volatile)) < chance).astype(float)


def _padded(volatile: np.ndarray, count: int) -> np.ndarray:
    """Add the documents on which nobody differs: (n, seeds, volatile) -> (n, seeds, count)."""
    still = np.zeros((*volatile.shape[:2], count - volatile.shape[2]))
    return np.concatenate([volatile, still], axis=2)
