"""Allocation stability: how much of an allocation survives another draw of the probe, or a smaller one.

Overlap of two allocations is the share of experts that both put into the same blocks, sum min(a, b) / the larger total;
by chance, with both histograms dealt to the blocks at random, it is the mean of min(a_i, b_j) over all pairs of blocks,
times their number. Rank correlation is Spearman's, over blocks; by chance it is 0. "another draw": every pair of draws
with the same number of samples. "smaller probe": an allocation against that of the same draw's largest probe, which
contains it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import ConstantInputWarning

from results.studies.stability import OTHER, SAME, Stability

DRAW, SMALLER = "another draw", "smaller probe"
COLUMNS = ("method", "family", "kind", "samples", "draw", "against_draw", "against_samples", "overlap", "chance",
           "rank_correlation", "record")  # fmt: skip


def load_stability(folder: Path) -> list[Stability]:
    """Every measurement of a folder. Raises RecordError naming a file that is none."""
    return [Stability.load(path) for path in sorted(folder.glob("*.json"))]


def overlap(a: Mapping[str, int], b: Mapping[str, int]) -> float:
    """Share of experts that both allocations put into the same blocks; 1 for equal ones. The blocks must agree."""
    experts = _by_block(a, b)
    return float(experts.min(axis=1).sum() / experts.sum().max())


def chance_overlap(a: Mapping[str, int], b: Mapping[str, int]) -> float:
    """Return the expected `overlap` of both dealt to blocks at random: n * mean of min(a_i, b_j) / the larger total."""
    experts = _by_block(a, b)
    pairs = np.minimum.outer(experts["a"].to_numpy(), experts["b"].to_numpy())
    return float(pairs.mean() * len(experts) / experts.sum().max())


def rank_correlation(a: Mapping[str, int], b: Mapping[str, int]) -> float:
    """Spearman's rho over blocks, ties averaged; NaN where one of them is the same everywhere."""
    experts = _by_block(a, b)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        return float(experts["a"].corr(experts["b"], method="spearman"))


def stability_frame(measured: Sequence[Stability]) -> pd.DataFrame:
    """Return a row for every compared pair of allocations, with the columns `COLUMNS`."""
    rows: list[dict[str, Any]] = []
    for one in measured:
        label = _label(one, measured)
        for kind, first, second in _pairs(one):
            a, b = one.allocations[first], one.allocations[second]
            rows.append(
                {
                    "method": label, "family": one.method, "kind": kind, "samples": first[1],
                    "draw": first[0], "against_draw": second[0], "against_samples": second[1],
                    "overlap": overlap(a, b), "chance": chance_overlap(a, b),
                    "rank_correlation": rank_correlation(a, b), "record": one.name,
                }
            )  # fmt: skip
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))


def answers(pairs: pd.DataFrame) -> list[str]:
    """Answer in words for every method, from `stability_frame`, by what results/studies/stability.py declares."""
    said = []
    drawn = pairs[pairs["kind"] == DRAW]
    for method, part in drawn.groupby("method", sort=False):
        largest = part[part["samples"] == part["samples"].max()]
        rho, size = largest["rank_correlation"].mean(skipna=False), largest["samples"].iloc[0]
        if np.isnan(rho):
            said.append(f"{method}: undecided. Its allocations are the same in every block.")
            continue
        word = "yes" if rho >= SAME else "no" if rho < OTHER else "undecided"
        by_chance = f"{100 * largest['overlap'].mean():.0f}% of the experts stand in the same blocks, by chance "
        by_chance += f"{100 * largest['chance'].mean():.0f}%"
        said.append(f"{method}: {word}. At {size} samples a task agreement is {rho:.2f}; {by_chance}.")
    return said


def between_frame(measured: Sequence[Stability]) -> pd.DataFrame:
    """Return a row for every two measurements: do two importances place the same? Mean over the draws both have.

    Compared on each draw's largest probe that both have; of one suite, model and source. Columns: method, other,
    draws, overlap, rank_correlation.
    """
    rows = []
    for one, other in combinations(measured, 2):
        shared = sorted(one.allocations.keys() & other.allocations.keys())
        alike = all(getattr(one, name) == getattr(other, name) for name in ("suite", "model", "source"))
        largest = [(d, n) for d, n in shared if n == max(m for _, m in shared)]
        if not alike or not largest:
            continue
        pairs = [(one.allocations[k], other.allocations[k]) for k in largest]
        rows.append(
            {
                "method": _label(one, measured), "other": _label(other, measured), "draws": len(pairs),
                "overlap": float(np.mean([overlap(a, b) for a, b in pairs])),
                "rank_correlation": float(np.mean([rank_correlation(a, b) for a, b in pairs])),
            }
        )  # fmt: skip
    return pd.DataFrame(rows, columns=["method", "other", "draws", "overlap", "rank_correlation"])


def _label(one: Stability, measured: Sequence[Stability]) -> str:
    """Name a method that was measured in several ways by its importance, where that tells them apart, or its hash."""
    alike = [other for other in measured if other.method == one.method]
    if len(alike) == 1:
        return one.method
    importances = [other.hyperparameters.get("importance") for other in alike]
    own = one.hyperparameters.get("importance")
    if own is not None and importances.count(own) == 1:
        return f"{one.method}, {own}"
    return f"{one.method} ({one.name.rsplit('--', 1)[-1]})"


def _pairs(one: Stability) -> Iterator[tuple[str, tuple[int, int], tuple[int, int]]]:
    """Kind and both (draw, samples) of every pair that was measured."""
    sizes = sorted({samples for _, samples in one.allocations})
    draws = sorted({seed for seed, _ in one.allocations})
    pairs = [(DRAW, (i, n), (j, n)) for n in sizes for i, j in combinations(draws, 2)]
    pairs += [(SMALLER, (i, n), (i, sizes[-1])) for n in sizes[:-1] for i in draws]
    yield from (pair for pair in pairs if pair[1] in one.allocations and pair[2] in one.allocations)


def _by_block(a: Mapping[str, int], b: Mapping[str, int]) -> pd.DataFrame:
    """Return a row a block, the experts of both in columns "a" and "b"."""
    if set(a) != set(b) or not any(a.values()):
        raise ValueError("two allocations over different blocks, or without an expert, have no overlap")
    return pd.DataFrame({"a": pd.Series(a), "b": pd.Series(b)})
