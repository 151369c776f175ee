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

    def of_seeds(self, seeds: Iterable[int]) -> list[Record]:
        """Return the finished records of these seeds, in the order of the seeds."""
        wanted = set(seeds)
        return [r for r in self.done if r.spec.seed in wanted]

    def outcomes(self, task: str, seeds: Iterable[int] | None = None) -> np.ndarray:
        """(documents,) of the task, averaged over `seeds` (default: every finished one)."""
        chosen = self.done if seeds is None else self.of_seeds(seeds)
        return np.mean([(r.scores or {})[task].outcomes for r in chosen], axis=0)


def finished(rows: Iterable[Row]) -> list[Row]:
    """Return the rows with at least one finished record."""
    return [row for row in rows if row.done]


def first_of(rows: Iterable[Row], methods: Iterable[str]) -> list[Row]:
    """Return the finished row of each of `methods` that has one; of several its own, which comes first."""
    first = {row.method: row for row in reversed(finished(rows))}
    return [first[method] for method in methods if method in first]


def families(rows: Iterable[Row], reference: Row) -> list[tuple[list[Row], list[list[Record]]]]:
    """Part rows by the seeds that they share with `reference`: the rows, and the records of these seeds.

    The records of the reference come first, then those of each row, all in the order of the seeds. Rows that share no
    seed with it are left out.
    """
    by_seeds: dict[tuple[int, ...], list[Row]] = {}
    for row in rows:
        if seeds := tuple(sorted(set(row.seeds) & set(reference.seeds))):
            by_seeds.setdefault(seeds, []).append(row)
    return [(family, [row.of_seeds(seeds) for row in (reference, *family)]) for seeds, family in by_seeds.items()]
