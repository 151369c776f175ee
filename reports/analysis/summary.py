"""Rows of records, condensed: one `Summary` a row and the paired `Comparison`s to a reference.

Everything tables and figures show is taken from here, so that a number is computed in one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from reports.analysis import stats
from reports.analysis.rows import Row, finished
from results.metrics import METRICS, macro_accuracy
from results.record import Record


@dataclass(frozen=True)
class Summary:
    """One row of the main table; accuracies are fractions, what is not known is None."""

    row: Row
    tasks: dict[str, tuple[float, float | None]]  # mean over seeds and standard error over documents
    macro: float | None
    macro_stderr: float | None  # over documents
    macro_deviation: float | None  # over seeds
    macro_seeds: tuple[float, ...]  # macro mean of each seed
    metrics: dict[str, float | None]  # mean over seeds of each row of results.metrics
    best: bool  # no other has a higher macro mean
    best_p: float | None  # of its lag behind the best, over all pairs; None: the best, failed, or too few documents
    tied: bool  # not to be told from the best
    note: str  # what went wrong, if anything

    @property
    def macro_interval(self) -> tuple[float, float] | None:
        """95%, over documents."""
        return None if self.macro is None else stats.interval(self.macro, self.macro_stderr)


@dataclass(frozen=True)
class Comparison:
    """A method against a reference on the same documents."""

    row: Row
    reference: Row
    macro: stats.Difference
    macro_p: float | None  # Holm-adjusted over methods
    tasks: dict[str, tuple[float, float, float | None]]  # difference, McNemar p, Holm-adjusted over methods
    seeds: list[int]  # that both have
    documents: int


def summarise(rows: Sequence[Row], tasks: Sequence[str]) -> list[Summary]:
    """One summary a row, in their order; failed rows have no numbers but a note."""
    means = {row: float(np.mean([row.outcomes(task).mean() for task in tasks])) for row in finished(rows)}
    best = max(means, key=lambda row: means[row], default=None)
    against = _against(rows, tasks, best) if best else {}
    highest = {row for row, mean in means.items() if best and mean > means[best] - 1e-12}
    return [_summary(row, tasks, row in highest, against) for row in rows]


def compare(
    rows: Sequence[Row], tasks: Sequence[str], reference: Row, methods: Sequence[str] | None = None
) -> list[Comparison]:
    """Every other finished row, or those of `methods`, against `reference`; p-values are adjusted over these rows."""
    paired = []
    for row in finished(rows):
        if row is reference or (methods is not None and row.method not in methods):
            continue
        seeds = _common_seeds(row, reference)
        differences = [row.outcomes(task, seeds) - reference.outcomes(task, seeds) for task in tasks]
        pairs = zip(tasks, differences, strict=True)
        by_task = {task: (float(d.mean()), stats.mcnemar(d)) for task, d in pairs}
        paired.append((row, stats.paired_bootstrap(differences), by_task, seeds, sum(map(len, differences))))
    macro = stats.holm({row.label: difference.p for row, difference, *_ in paired})
    adjusted = {task: stats.holm({row.label: by_task[task][1] for row, _, by_task, *_ in paired}) for task in tasks}
    return [
        Comparison(
            row,
            reference,
            difference,
            macro[row.label],
            {task: (*by_task[task], adjusted[task][row.label]) for task in tasks},
            list(seeds or ()),
            documents,
        )
        for row, difference, by_task, seeds, documents in paired
    ]


def _common_seeds(row: Row, other: Row) -> tuple[int, ...] | None:
    """Seeds that both rows have; None (all of each) where they share none."""
    return tuple(sorted(set(row.seeds) & set(other.seeds))) or None


def _against(rows: Sequence[Row], tasks: Sequence[str], best: Row) -> dict[Row, float | None]:
    """P of each other finished row's lag behind `best`, adjusted over all pairs of finished rows.

    None: too few documents. A row that does not lag on the seeds in common, which are what is tested, has 1.
    """
    columns: dict[tuple[Row, tuple[int, ...] | None], int] = {}
    pairs: dict[tuple[Row, Row], tuple[int, int]] = {}
    for one, other in combinations([best, *(row for row in finished(rows) if row is not best)], 2):
        seeds = _common_seeds(one, other)
        first, second = (columns.setdefault((row, seeds), len(columns)) for row in (one, other))
        pairs[one, other] = first, second
    if not pairs:
        return {}
    outcomes = [np.array([row.outcomes(task, seeds) for row, seeds in columns]) for task in tasks]
    means = np.mean([task.mean(axis=1) for task in outcomes], axis=0)
    tested = zip(pairs.items(), stats.max_t(outcomes, list(pairs.values())), strict=True)
    return {
        row: p if p is None or means[first] > means[second] else 1.0
        for ((reference, row), (first, second)), p in tested
        if reference is best
    }


def detectable(comparisons: Sequence[Comparison]) -> tuple[float, float] | None:
    """(smallest, largest) over the comparisons of the smallest difference each could have detected."""
    known = [stats.minimum_detectable(c.macro.stderr) for c in comparisons if c.macro.stderr]
    return (min(known), max(known)) if known else None


def _summary(row: Row, asked: Sequence[str], best: bool, against: Mapping[Row, float | None]) -> Summary:
    tasks: dict[str, tuple[float, float | None]] = {}
    seeds: tuple[float, ...] = ()
    macro: float | None = None
    stderr: float | None = None
    deviation: float | None = None
    if row.done:
        for task in asked:
            accuracy = float(np.mean([(r.scores or {})[task].value for r in row.done]))
            # lm-eval's own standard error for a single seed; from the averaged outcomes for several
            only = (row.done[0].scores or {})[task].stderr if len(row.done) == 1 else None
            tasks[task] = accuracy, stats.standard_error(row.outcomes(task)) if only is None else only
        seeds = tuple(value for r in row.done if (value := macro_accuracy(r)) is not None)
        if seeds:
            macro, deviation = stats.seed_summary(seeds)
        stderr = stats.macro_standard_error([error for _, error in tasks.values()])
    metrics = {m.name: _mean([m.get(r) for r in row.done or row.failed[-1:]]) for m in METRICS}
    best_p = against.get(row)
    tied = row in against and (best_p is None or best_p >= stats.ALPHA)  # where documents cannot decide, it is a tie
    return Summary(row, tasks, macro, stderr, deviation, seeds, metrics, best, best_p, tied, _note(row))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _note(row: Row) -> str:
    """Why jobs of the row failed, one reason a seed."""
    reasons = []
    for record in row.failed:
        reached = f" in {list(record.costs)[-1]}" if record.costs else ""
        which = f"seed {record.spec.seed} " if row.done or len(row.failed) > 1 else ""
        reasons.append(f"{which}failed{reached}: {_short(record)}")
    return "; ".join(reasons)


def _short(record: Record) -> str:
    text = " ".join((record.error or "no reason recorded").split())
    return text if len(text) <= 160 else text[:159] + "…"
