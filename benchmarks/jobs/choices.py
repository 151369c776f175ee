"""What lm-eval computed of every choice of a document, and what was written: right or wrong alone is one bit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

Sample = Mapping[str, Any]
INVALID = "[invalid]"  # what lm-eval's regex filter makes of an answer in which nothing matches
KEPT_CHARACTERS = 200  # of a written answer; a digest stands for the rest


def document_fields(task: Any, samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the per-document fields of a `Score` for an lm-eval task and its logged samples, in their order.

    Tasks of choices give `loglikelihoods` [document][choice] (natural logarithm), `choice_bytes` (UTF-8 bytes of the
    scored continuation without the target delimiter) and `gold` (index, None without a single right choice); tasks
    whose answers are written give `answers`, as they were written: at most 200 characters, then a digest of the whole.
    """
    if task.OUTPUT_TYPE == "generate_until":
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


def gold_index(task: Any, doc: Mapping[str, Any]) -> int | None:
    """Return the index of the right choice, as lm-eval's own scoring reads it; None where there is no single one."""
    if task.OUTPUT_TYPE == "loglikelihood":
        return 0
    choices = task.doc_to_choice(doc)
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    if isinstance(gold, str):
        return choices.index(gold) if gold in choices else None
    return gold if isinstance(gold, int) and 0 <= gold < len(choices) else None


def _number_of_choices(task: Any, sample: Sample) -> int:
    """Count the choices; requests beyond them are lm-eval's for mutual information."""
    return 1 if task.OUTPUT_TYPE == "loglikelihood" else len(task.doc_to_choice(sample["doc"]))


def _answer(text: str) -> str:
    text = text.strip()
    if len(text) <= KEPT_CHARACTERS:
        return text
    return f"{text[:KEPT_CHARACTERS]} [{hashlib.sha256(text.encode()).hexdigest()[:8]}]"
