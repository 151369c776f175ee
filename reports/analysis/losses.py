"""The loss of each batch before the model is trained on it, paired over steps: a free measure of learning.

In one pass over the documents no batch was seen before, and all methods of one seed meet the same batches. Losses of
neighbouring steps go together, so that the standard error allows for autocorrelation (Newey and West, 1987).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from statsmodels.regression.linear_model import OLS

from reports.analysis.crossed import Estimate, Paired
from results.record import Record

BURN_IN = 0.1  # share of the steps, at the start, that are left out: nothing is learned yet
LEAST_STEPS = 10


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
