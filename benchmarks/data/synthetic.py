"""Documents of random tokens, all of one length: what a run costs depends on their number and length alone.

There is no text, so nothing is asked of lm-eval: evaluation is a forward pass (benchmarks/jobs/forward.py) and has no
score.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from benchmarks.data.documents import text_hash
from benchmarks.data.examples import Example, shares
from results import RunSpec

SOURCE = "synthetic"
ANSWER_TOKENS = 4
BRIEF = 32  # tokens of a document where training is no part of the question


def data(spec: RunSpec, tokenizer: Any, description: dict[str, Any]) -> tuple[dict[str, Any], dict[str, list[Example]]]:
    """Return no task of lm-eval, and the training examples of each task; describes these in `description`."""
    assert spec.train_documents is not None  # refused by the plan
    sizes = dict.fromkeys(spec.tasks, spec.train_documents)  # as many as are asked for
    counts = shares(sizes, spec.train_documents, spec.task_shares)
    examples = {t: _sample(spec, t, "train", counts[t], len(tokenizer)) for t in spec.trained_tasks}
    for task, task_examples in examples.items():
        description[task] = {
            "train_documents": len(task_examples),
            "train_hash": text_hash(str([e.ids for e in task_examples]))[:12],
            "train_tokens": sum(len(e.ids) for e in task_examples),
            "truncated": 0,
            "evaluation_documents": spec.evaluation_limit,
        }
    return {}, examples


def briefly(
    spec: RunSpec, tokenizer: Any, description: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, list[Example]]]:
    """Return what `data` does, of documents no longer than an adapter needs to be there and its experts placed."""
    return data(replace(spec, max_length=min(spec.max_length, BRIEF)), tokenizer, description)


def evaluation(spec: RunSpec, vocabulary: int) -> list[Example]:
    """Return `evaluation_limit` documents of each task."""
    assert spec.evaluation_limit is not None  # refused by the plan
    tasks, count = spec.trained_tasks, spec.evaluation_limit
    return [example for task in tasks for example in _sample(spec, task, "evaluate", count, vocabulary)]


def shape(config: Any) -> Mapping[str, int | None]:
    """Return the dimensions of a language model that its cost is counted from (reports/analysis/costs/arithmetic.py).

    None for what its configuration does not say.
    """
    config = config.get_text_config()

    def known(name: str) -> int | None:
        value = getattr(config, name, None)
        return value if isinstance(value, int) else None

    heads, width = known("num_attention_heads"), known("hidden_size")
    return {
        "layers": known("num_hidden_layers"),
        "width": width,
        "mlp": known("intermediate_size"),
        "heads": heads,
        "kv_heads": known("num_key_value_heads") or heads,
        "head": known("head_dim") or (width // heads if width and heads else None),
        "vocabulary": known("vocab_size"),
    }


def _sample(spec: RunSpec, task: str, part: str, count: int, vocabulary: int) -> list[Example]:
    rng = random.Random(f"{spec.data_seed}/{task}/{part}")
    length = spec.max_length
    return [Example(task, tuple(rng.choices(range(vocabulary), k=length)), ANSWER_TOKENS, False) for _ in range(count)]
