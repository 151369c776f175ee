"""Rows of records, condensed: one `Summary` a row and the paired `Comparison`s to a reference.

Everything tables and figures show is taken from here, so that a number is computed in one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import studentized_range

from reports.analysis import crossed, measures, stats
from reports.analysis.crossed import Estimate
from reports.analysis.rows import Row, families, finished
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
    others = [r for r in finished(rows) if r is not reference and (methods is None or r.method in methods)]
    about_methods = _method_estimates(others, tasks, reference)
    paired = []
    for row in others:
        seeds = _common_seeds(row, reference)
        differences = [row.outcomes(task, seeds) - reference.outcomes(task, seeds) for task in tasks]
        by_task = {task: (float(d.mean()), stats.mcnemar(d)) for task, d in zip(tasks, differences, strict=True)}
        macro = stats.paired_bootstrap(differences)
        if (estimates := about_methods.get(row)) is not None:
            whole, *each = estimates
            macro = stats.Difference(whole.value, whole.stderr, *whole.interval(), whole.p)
            by_task = {task: (e.value, e.p) for task, e in zip(tasks, each, strict=True)}
        paired.append((row, macro, by_task, seeds, sum(map(len, differences))))
    macro_p = stats.holm({row.label: difference.p for row, difference, *_ in paired})
    flat = {(row.label, task): p for row, _, by_task, *_ in paired for task, (_, p) in by_task.items()}
    adjusted = stats.holm(flat)
    return [
        Comparison(
            row,
            reference,
            difference,
            macro_p[row.label],
            {task: (*by_task[task], adjusted[row.label, task]) for task in tasks},
            list(seeds or ()),
            documents,
        )
        for row, difference, by_task, seeds, documents in paired
    ]


def _method_estimates(rows: Sequence[Row], tasks: Sequence[str], reference: Row) -> dict[Row, list[Estimate]]:
    """Estimate each row's difference of accuracy to `reference` over documents and seeds: macro mean, then each task.

    Rows that share fewer than two seeds with it, or tasks of a single document, have no estimate.
    """
    estimates: dict[Row, list[Estimate]] = {}
    for family, records in families(rows, reference):
        if (arrays := measures.values(records, tasks, measures.ACCURACY)) is None:
            continue
        asked = [crossed.against(part, 0)[1:] for part in (arrays, *([array] for array in arrays))]
        for i, row in enumerate(family):
            of_row = [pairs[i].method for pairs in asked]
            if None not in of_row:
                estimates[row] = [estimate for estimate in of_row if estimate is not None]
    return estimates


def _common_seeds(row: Row, other: Row) -> tuple[int, ...] | None:
    """Seeds that both rows have; None (all of each) where they share none."""
    return tuple(sorted(set(row.seeds) & set(other.seeds))) or None


def _against(rows: Sequence[Row], tasks: Sequence[str], best: Row) -> dict[Row, float | None]:
    """P of each other finished row's lag behind `best`, adjusted over all pairs of finished rows.

    None: too few documents. A row that does not lag on the seeds in common, which are what is tested, has 1.
    """
    rows = finished(rows)
    if (shared := set.intersection(*(set(row.seeds) for row in rows))) and len(shared) > 1:
        return _against_over_seeds(rows, tasks, best, sorted(shared))
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


def _against_over_seeds(
    rows: Sequence[Row], tasks: Sequence[str], best: Row, seeds: Sequence[int]
) -> dict[Row, float | None]:
    """P of each other row's lag behind `best` over documents and seeds, by Tukey's range test over all rows."""
    others = [row for row in rows if row is not best]
    records = [row.of_seeds(seeds) for row in (best, *others)]
    arrays = measures.values(records, tasks, measures.ACCURACY)
    pairs = crossed.against(arrays, 0)[1:] if arrays is not None else []
    result: dict[Row, float | None] = dict.fromkeys(others)
    for row, pair in zip(others, pairs, strict=True):
        if (e := pair.method) is not None:
            ratio = -e.value / e.stderr if e.stderr else np.inf if e.value < 0 else 0.0
            p = float(studentized_range.sf(max(ratio, 0.0) * np.sqrt(2), len(rows), e.freedom))
            result[row] = p if ratio > 0 else 1.0
    return result


def detectable(comparisons: Sequence[Comparison]) -> tuple[float, float] | None:
    """(smallest, largest) over the comparisons of the smallest difference each could have detected, as Holm tests."""
    sizes = [stats.minimum_detectable(e, tests=len(comparisons)) for c in comparisons if (e := c.macro.stderr)]
    return (min(sizes), max(sizes)) if sizes else None


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
        reached = f" after {list(record.costs)[-1]}" if record.costs else ""  # the last phase that was finished
        which = f"seed {record.spec.seed} " if row.done or len(row.failed) > 1 else ""
        reasons.append(f"{which}failed{reached}: {_short(record)}")
    return "; ".join(reasons)


def _short(record: Record) -> str:
    text = " ".join((record.error or "no reason recorded").split())
    return text if len(text) <= 160 else text[:159] + "…"
