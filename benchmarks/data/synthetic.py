"""Documents of random tokens, all of one length: what a run costs depends on their number and length alone.

There is no text, so nothing is asked of lm-eval: evaluation is a forward pass over as many documents, and has no score.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from benchmarks.data.batches import collate
from benchmarks.data.documents import text_hash
from benchmarks.data.examples import Example, shares
from benchmarks.jobs.train import answer_loss, answer_width
from results import RunSpec

SOURCE = "synthetic"
ANSWER_TOKENS = 4


def sizes(spec: RunSpec) -> dict[str, int]:
    """Training documents that each task could give: as many as are asked for."""
    assert spec.train_documents is not None  # refused by the plan
    return dict.fromkeys(spec.tasks, spec.train_documents)


def training(spec: RunSpec, vocabulary: int, data: dict[str, Any]) -> dict[str, list[Example]]:
    """Training examples of each task; describes them in `data`."""
    counts = shares(sizes(spec), spec.train_documents, spec.task_shares)
    chosen = {task: _drawn(spec, task, "train", counts[task], vocabulary) for task in spec.tasks}
    for task, found in chosen.items():
        data[task] = {
            "train_documents": len(found),
            "train_hash": text_hash(str([e.ids for e in found]))[:12],
            "train_tokens": sum(len(e.ids) for e in found),
            "truncated": 0,
            "evaluation_documents": spec.evaluation_limit,
        }
    return chosen


@torch.no_grad()
def forward(
    model: torch.nn.Module,
    tokenizer: Any,
    spec: RunSpec,
    tasks: Sequence[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Pass `evaluation_limit` documents of each task through the model; returns their tokens."""
    assert spec.evaluation_limit is not None  # refused by the plan
    found = [e for t in tasks for e in _drawn(spec, t, "evaluate", spec.evaluation_limit, len(tokenizer))]
    size = spec.evaluation_batch_size
    for start in range(0, len(found), size):
        batch = collate(found[start : start + size], tokenizer.pad_token_id)
        answer_loss(model, {name: t.to(spec.device) for name, t in batch.items()}, answer_width(batch))
        progress(min(start + size, len(found)), len(found))
    return sum(len(e.ids) for e in found)


def shape(config: Any) -> Mapping[str, int]:
    """The dimensions of a model that its cost is counted from (reports/analysis/arithmetic.py)."""
    heads = config.num_attention_heads
    return {
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "mlp": config.intermediate_size,
        "heads": heads,
        "kv_heads": config.num_key_value_heads,
        "head": getattr(config, "head_dim", None) or config.hidden_size // heads,
        "vocabulary": config.vocab_size,
    }


def _drawn(spec: RunSpec, task: str, part: str, count: int, vocabulary: int) -> list[Example]:
    rng = random.Random(f"{spec.data_seed}/{task}/{part}")
    length = spec.max_length
    return [Example(task, tuple(rng.choices(range(vocabulary), k=length)), ANSWER_TOKENS, False) for _ in range(count)]
