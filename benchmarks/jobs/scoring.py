"""lm-eval's results of a task -> Score: the headline metric, every other one, and an outcome for each document."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.jobs.choices import INVALID, Sample, document_fields
from results import Score


def score(metric: str, results: Mapping[str, Any], samples: Sequence[Sample], task: Any) -> Score:
    """Read lm-eval's result of one task, keys "metric,filter", as a Score.

    Where the task's answers are written, "unparseable" is the share of those in which the filter found none. Raises
    ValueError without `metric`, FloatingPointError for a log-likelihood that is not finite.
    """
    # Of several readings of an answer, the first counts.
    first = samples[0].get("filter", "none") if samples else "none"
    samples = [sample for sample in samples if sample.get("filter", first) == first]
    values = {key.split(",")[0]: value for key, value in results.items() if key.endswith(f",{first}")}
    metrics = {key: float(value) for key, value in values.items() if _is_number(value)}
    if task.OUTPUT_TYPE != "generate_until":
        _require_finite(samples)
    else:
        metrics["unparseable"] = sum(sample["filtered_resps"] == [INVALID] for sample in samples) / len(samples)
    if metric not in metrics:
        raise ValueError(f"metric {metric!r} is not reported; reported: {', '.join(sorted(metrics))}")
    repeats: Counter[str] = Counter()
    documents = []
    for sample in samples:  # a data set may hold one document twice: the second gets a suffix
        short = sample["doc_hash"][:12]
        repeats[short] += 1
        documents.append(short if repeats[short] == 1 else f"{short}.{repeats[short]}")
    return Score(
        metric=metric,
        value=metrics[metric],
        stderr=metrics.get(f"{metric}_stderr"),
        count=len(samples),
        all_metrics=metrics,
        documents=tuple(documents),
        outcomes=tuple(float(sample[metric]) for sample in samples),
        direction="higher" if task.higher_is_better().get(metric, True) else "lower",
        **document_fields(task, samples),
    )


def _require_finite(samples: Sequence[Sample]) -> None:
    """Raise FloatingPointError for the first document with a log-likelihood that is not finite."""
    for number, sample in enumerate(samples):
        values = [response[0] for responses in sample.get("resps", ()) for response in responses if response]
        if not all(math.isfinite(value) for value in values):
            raise FloatingPointError(f"document {number}: log-likelihoods {values} are not finite")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
