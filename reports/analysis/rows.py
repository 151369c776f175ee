"""A row of a table: one method with its settings, over seeds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from results.record import Record


@dataclass(frozen=True, eq=False)
class Row:
    """One contestant: a method with its hyperparameters, over seeds."""

    label: str
    method: str
    done: tuple[Record, ...]  # by seed
    failed: tuple[Record, ...]

    @property
    def seeds(self) -> list[int]:
        return [r.spec.seed for r in self.done]

    def outcomes(self, task: str, seeds: Iterable[int] | None = None) -> np.ndarray:
        """(documents,) of the task, averaged over `seeds` (default: every finished one)."""
        wanted = None if seeds is None else set(seeds)
        chosen = [r for r in self.done if wanted is None or r.spec.seed in wanted]
        return np.mean([(r.scores or {})[task].outcomes for r in chosen], axis=0)


def finished(rows: Iterable[Row]) -> list[Row]:
    """Return the rows with at least one finished record."""
    return [row for row in rows if row.done]


def first_of(rows: Iterable[Row], methods: Iterable[str]) -> list[Row]:
    """Return the finished row of each of `methods` that has one; of several its own, which comes first."""
    first = {row.method: row for row in reversed(finished(rows))}
    return [first[method] for method in methods if method in first]
