"""lm-eval's results of a task -> Score: the headline metric, every other one, and an outcome for each document."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.data.tasks import is_written, right_choices
from results import Score

Sample = Mapping[str, Any]
INVALID = "[invalid]"  # what lm-eval's regex filter makes of an answer in which nothing matches
KEPT_CHARACTERS = 200  # of a written answer; a digest stands for the rest


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
    if not is_written(task):
        _require_finite(samples)
    else:
        metrics["unparseable"] = sum(sample["filtered_resps"] == [INVALID] for sample in samples) / len(samples)
    if metric not in metrics:
        raise ValueError(f"metric {metric!r} is not reported; reported: {', '.join(sorted(metrics))}")
    return Score(
        metric=metric,
        value=metrics[metric],
        stderr=metrics.get(f"{metric}_stderr"),
        count=len(samples),
        all_metrics=metrics,
        documents=named(sample["doc_hash"] for sample in samples),
        outcomes=tuple(float(sample[metric]) for sample in samples),
        direction="higher" if task.higher_is_better().get(metric, True) else "lower",
        **document_fields(task, samples),
    )


def named(hashes: Iterable[str]) -> tuple[str, ...]:
    """Return a name for each document of these hashes; of one that is there several times the second has a suffix."""
    repeats: Counter[str] = Counter()
    names = []
    for whole in hashes:
        short = whole[:12]
        repeats[short] += 1
        names.append(short if repeats[short] == 1 else f"{short}.{repeats[short]}")
    return tuple(names)


def _require_finite(samples: Sequence[Sample]) -> None:
    """Raise FloatingPointError for the first document with a log-likelihood that is not finite."""
    for number, sample in enumerate(samples):
        values = [response[0] for responses in sample.get("resps", ()) for response in responses if response]
        if not all(math.isfinite(value) for value in values):
            raise FloatingPointError(f"document {number}: log-likelihoods {values} are not finite")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def document_fields(task: Any, samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the per-document fields of a `Score` for an lm-eval task and its logged samples, in their order.

    Tasks of choices give `loglikelihoods` [document][choice] (natural logarithm), `choice_bytes` (UTF-8 bytes of the
    scored continuation without the target delimiter) and `gold` (index, None without a single right choice); tasks
    whose answers are written give `answers`, as they were written: at most 200 characters, then a digest of the whole.
    """
    if is_written(task):
        return {"answers": tuple(_answer(sample["resps"][0][0]) for sample in samples)}
    if task.OUTPUT_TYPE not in ("multiple_choice", "loglikelihood"):
        return {}
    counts = [_number_of_choices(task, sample) for sample in samples]
    delimiter = task.config.target_delimiter
    return {
        "loglikelihoods": tuple(
            tuple(float(responses[0][0]) for responses in sample["resps"][:count])
            for sample, count in zip(samples, counts, strict=True)
        ),
        "choice_bytes": tuple(
            tuple(len(arguments[1].removeprefix(delimiter).encode()) for arguments in sample["arguments"][:count])
            for sample, count in zip(samples, counts, strict=True)
        ),
        "gold": tuple(gold_index(task, sample["doc"]) for sample in samples),
    }


def gold_index(task: Any, doc: dict[str, Any]) -> int | None:
    """Return the index of the right choice, as lm-eval's own scoring reads it; None where there is no single one."""
    if task.OUTPUT_TYPE == "loglikelihood":
        return 0
    right = right_choices(task, doc)
    return right[0] if len(right) == 1 else None


def _number_of_choices(task: Any, sample: Sample) -> int:
    """Count the choices; requests beyond them are lm-eval's for mutual information."""
    return 1 if task.OUTPUT_TYPE == "loglikelihood" else len(task.doc_to_choice(sample["doc"]))


def _answer(text: str) -> str:
    text = text.strip()
    if len(text) <= KEPT_CHARACTERS:
        return text
    return f"{text[:KEPT_CHARACTERS]} [{hashlib.sha256(text.encode()).hexdigest()[:8]}]"
