"""Four verdicts on a difference: better, worse, equivalent within the margin, undecided.

Where both methods have two seeds or more they are about the methods; with one seed they are about these trained models
alone, and say so. Margins are declared in reports/claims.yaml, before the evidence.

The loss of each batch before the model is trained on it is a measure of learning that costs nothing: in one pass no
batch was seen before, and all methods of one seed meet the same ones. Losses of neighbouring steps go together: their
standard error allows for autocorrelation (Newey and West, 1987).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from statsmodels.regression.linear_model import OLS

from reports.analysis import crossed, stats
from reports.analysis.crossed import Estimate, Paired
from reports.analysis.measures import ACCURACY, HEADLINES, Measure, values
from reports.analysis.rows import Row, families, finished
from results.record import Record

BURN_IN = 0.1  # share of the steps, at the start, whose losses are left out: nothing is learned yet
LEAST_STEPS = 10
LEDGER = Path(__file__).resolve().parents[1] / "claims.yaml"
BETTER, WORSE, EQUIVALENT, UNDECIDED = "better", "worse", "equivalent", "undecided"
LOSS = Measure(
    "loss", "Loss before training", "How surprising each batch was before the model was trained on it.",
    "Nats a token, mean over the steps after the first tenth; errors allow for autocorrelation.",
    False, 1, "+z.4f", "nats", lambda score: None,
)  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """One method against a reference in one measure."""

    row: Row
    reference: Row
    measure: Measure
    paired: Paired
    p: float | None  # of the question that is answered, Holm-adjusted over the methods of the comparison
    word: str  # one of the four
    detectable: float | None  # smallest difference that the test in use finds with power 80%

    @property
    def asked(self) -> Estimate | None:
        """The estimate that the word is about: of the method with two seeds or more, else of these models."""
        return self.paired.method or self.paired.models

    @property
    def about_models(self) -> bool:
        """Whether the word is about these trained models alone."""
        return self.paired.method is None


def margins() -> dict[str, float]:
    """Return the declared margin of each measure, in its own unit (accuracy as a fraction)."""
    declared = (yaml.safe_load(LEDGER.read_text(encoding="utf-8")) or {}).get("margins") or {}
    return {name: float(value) for name, value in declared.items()}


def verdict(estimate: Estimate | None, margin: float | None, higher: bool, p: float | None = None) -> str:
    """Say which of the four it is. p: adjusted, in place of the estimate's own.

    Equivalent: the 90% interval lies within the margin, which is two one-sided tests at 5%; a difference that is sure
    but smaller than the margin is equivalent, since the margin says what does not matter.
    """
    if estimate is None:
        return UNDECIDED
    low, high = estimate.interval(1 - 2 * stats.ALPHA)
    if margin is not None and -margin < low and high < margin:
        return EQUIVALENT
    if (estimate.p if p is None else p) < stats.ALPHA:
        return BETTER if (estimate.value > 0) == higher else WORSE
    return UNDECIDED


def judge_rows(
    rows: Sequence[Row], tasks: Sequence[str], reference: Row, measure: Measure, methods: Sequence[str] | None = None
) -> list[Judged]:
    """Judge every other finished row, or those of `methods`, against `reference` on the seeds that both have.

    Rows without a value of the measure are left out; p-values are Holm-adjusted over the rows that have one.
    """
    pairs: list[tuple[Row, Paired]] = []
    others = [r for r in finished(rows) if r is not reference and (methods is None or r.method in methods)]
    for together, records in families(others, reference):
        if measure is LOSS:
            compared = [paired_losses(own, records[0]) for own in records[1:]]
            pairs += [(row, p) for row, p in zip(together, compared, strict=True) if p is not None]
        elif (arrays := values(records, tasks, measure)) is not None:
            pairs += list(zip(together, crossed.against(arrays, 0)[1:], strict=True))
    order = {row: i for i, row in enumerate(others)}
    pairs.sort(key=lambda pair: order[pair[0]])
    asked = {row.label: pair.method or pair.models for row, pair in pairs}
    adjusted = stats.holm({label: e.p if e is not None else None for label, e in asked.items()})
    margin = margins().get(measure.name)
    return [
        Judged(
            row, reference, measure, pair, adjusted[row.label],
            verdict(asked[row.label], margin, measure.higher, adjusted[row.label]),
            _detectable(asked[row.label], len(pairs)),
        )
        for row, pair in pairs
    ]  # fmt: skip


def _detectable(estimate: Estimate | None, tests: int) -> float | None:
    if estimate is None or not estimate.stderr:
        return None
    return stats.minimum_detectable(estimate.stderr, freedom=estimate.freedom, tests=tests)


def judge_all(
    rows: Sequence[Row], tasks: Sequence[str], reference: Row, methods: Sequence[str] | None = None
) -> Mapping[str, list[Judged]]:
    """Judge in the headline measures and in the loss, by the measure's name; one that no record gives is left out."""
    judged = {m.name: judge_rows(rows, tasks, reference, m, methods) for m in (*HEADLINES, LOSS)}
    return {name: of_measure for name, of_measure in judged.items() if of_measure}


def outdone(rows: Sequence[Row], tasks: Sequence[str]) -> dict[str, set[str]]:
    """{label: labels of the rows that the verdicts on accuracy call worse than it}, of the finished rows."""
    return {
        row.label: {j.row.label for j in judge_rows(rows, tasks, row, ACCURACY) if j.word == WORSE}
        for row in finished(rows)
    }


def paired_losses(method: Sequence[Record], reference: Sequence[Record]) -> Paired | None:
    """Compare two methods' losses (nats a token, lower is better), seed by seed in the same order.

    `documents` counts steps. None without losses of equally many steps, or for more than one pass.
    """
    series = []
    for one, other in zip(method, reference, strict=True):
        if not one.losses or not other.losses or len(one.losses) != len(other.losses) or one.spec.epochs > 1:
            return None
        start = math.ceil(BURN_IN * len(one.losses))
        series.append(np.subtract(one.losses, other.losses)[start:])
    if not series or len(series[0]) < LEAST_STEPS:
        return None
    each = [autocorrelation_robust(difference) for difference in series]
    value = float(np.mean([estimate.value for estimate in each]))
    steps = math.sqrt(sum(estimate.stderr**2 for estimate in each)) / len(each)
    models = Estimate(value, steps, len(series[0]) - 1)
    over_seeds = None
    if len(each) > 1:
        deviation = float(np.std([estimate.value for estimate in each], ddof=1))
        over_seeds = Estimate(value, max(deviation / math.sqrt(len(each)), 1e-12), len(each) - 1)
    return Paired(value, models, over_seeds, len(each), len(series[0]))


def autocorrelation_robust(series: np.ndarray) -> Estimate:
    """Estimate the mean of a series (steps,) with Newey and West's error, lags up to 4 (n / 100)^(2/9), at least 1."""
    lags = max(math.floor(4 * (len(series) / 100) ** (2 / 9)), 1)
    fit = OLS(series, np.ones(len(series))).fit(cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": True})
    return Estimate(float(fit.params[0]), float(fit.bse[0]), len(series) - 1)
