"""Examples -> optimiser steps -> padded token batches, in an order that the seed alone decides.

The documents of a step are a random draw from the mixture. They go through the model in micro-batches of similar
length. Padding is on the left: answers then end together, and logits are needed at the last few positions only.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import torch

from benchmarks.data.examples import Example
from smoe import task_id

Batch = dict[str, torch.Tensor]  # "input_ids", "attention_mask", "position_ids", "labels": each (B, S); "task": (B,)
EACH = 128  # tokens of a document in a micro-batch of several
Step = tuple[list[Batch], int]  # micro-batches of one optimiser step, and the real tokens in them


def collate(examples: Sequence[Example], pad_token: int) -> Batch:
    """Stack examples as left-padded tensors; labels are -100 everywhere but on the answer."""
    width = max(len(e.ids) for e in examples)
    ids, mask, labels = [], [], []
    for e in examples:
        pad = width - len(e.ids)
        ids.append([pad_token] * pad + list(e.ids))
        mask.append([0] * pad + [1] * len(e.ids))
        labels.append([-100] * (width - e.answer_tokens) + list(e.ids[-e.answer_tokens :]))
    attention_mask = torch.tensor(mask)
    return {
        "input_ids": torch.tensor(ids),
        "attention_mask": attention_mask,
        "position_ids": (attention_mask.cumsum(1) - 1).clamp_min(0),
        "labels": torch.tensor(labels),
    }


def num_optimizer_steps(documents: int, batch_size: int, epochs: float) -> int:
    """Count the optimiser steps that `stream` yields for so many documents."""
    return round(-(-documents // batch_size) * epochs)


def drawn_steps(examples: Sequence[Example], batch_size: int, epochs: float, seed: int) -> Iterator[Sequence[Example]]:
    """Yield the documents of every step: each epoch in a new random order; a fractional one stops part of the way."""
    left = num_optimizer_steps(len(examples), batch_size, epochs)
    epoch = 0
    while left > 0:
        order = random.Random(seed * 1000 + epoch).sample(list(examples), len(examples))
        for start in range(0, len(order), batch_size)[:left]:
            yield order[start : start + batch_size]
        left -= num_optimizer_steps(len(examples), batch_size, 1.0)
        epoch += 1


def stream(
    examples: Sequence[Example], batch_size: int, micro_batch: int | None, epochs: float, seed: int, pad_token: int
) -> Iterator[Step]:
    """Yield every step, its documents sorted by length and cut into micro-batches; None: all of them at once.

    A step that is cut has no micro-batch of several documents with more than `EACH` tokens for each, padding included:
    the longest documents, which decide the peak of memory, go through the model alone.
    """
    size = micro_batch or batch_size
    tokens = size * EACH if size < batch_size else None
    for documents in drawn_steps(examples, batch_size, epochs, seed):
        yield micro_batches(documents, size, pad_token, tokens), sum(len(e.ids) for e in documents)


def micro_batches(examples: Sequence[Example], size: int, pad_token: int, tokens: int | None = None) -> list[Batch]:
    """Make batches of at most `size` examples of similar length, the shortest first, each with its `task_id`.

    tokens: that several examples may have together, padding included.
    """
    chunks: list[list[Example]] = []
    for example in sorted(examples, key=lambda e: len(e.ids)):
        full = not chunks or len(chunks[-1]) == size
        if full or (tokens is not None and (len(chunks[-1]) + 1) * len(example.ids) > tokens):
            chunks.append([])
        chunks[-1].append(example)
    return [{**collate(c, pad_token), "task": torch.tensor([task_id(e.task) for e in c])} for c in chunks]


def documents_by_step(examples: Sequence[Example], batch_size: int, epochs: float, seed: int) -> dict[str, str]:
    """Count each task's documents in every step, as "2 0 1 ..." by task, for the record."""
    counts = [Counter(e.task for e in step) for step in drawn_steps(examples, batch_size, epochs, seed)]
    return {task: " ".join(str(count[task]) for count in counts) for task in dict.fromkeys(e.task for e in examples)}


def probe(
    examples: Mapping[str, Sequence[Example]], documents: int, batch_size: int, pad_token: int
) -> dict[str, list[Batch]]:
    """Make batches of the first `documents` examples of each task, sorted by length, for allocators to read."""
    return {
        task: micro_batches(task_examples[:documents], batch_size, pad_token)
        for task, task_examples in examples.items()
    }
