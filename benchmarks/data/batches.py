"""Examples -> padded token batches, grouped by length, in an order that the seed alone decides.

Padding is on the left: answers then end together, and logits are needed at the last few positions only.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

import torch

from benchmarks.data.examples import Example

Batch = dict[str, torch.Tensor]  # "input_ids", "attention_mask", "position_ids", "labels": each (B, S)
MEGABATCH = 16  # batches that are sorted by length together: little padding, yet nearly random order


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


def length_grouped_batches(examples: Sequence[Example], batch_size: int, seed: int) -> Iterator[list[Example]]:
    """Yield one epoch: shuffle, sort megabatches of MEGABATCH batches by length, cut, shuffle the batches of each."""
    rng = random.Random(seed)
    order = rng.sample(list(examples), len(examples))
    for start in range(0, len(order), MEGABATCH * batch_size):
        megabatch = sorted(order[start : start + MEGABATCH * batch_size], key=lambda e: len(e.ids))
        batches = [megabatch[i : i + batch_size] for i in range(0, len(megabatch), batch_size)]
        yield from rng.sample(batches, len(batches))


def num_optimizer_steps(documents: int, batch_size: int, epochs: float) -> int:
    """Count the optimiser steps that `stream` yields for so many documents."""
    return round(-(-documents // batch_size) * epochs)


def stream(
    examples: Sequence[Example], batch_size: int, epochs: float, seed: int, pad_token: int
) -> Iterator[tuple[Batch, int]]:
    """Yield (batch, real tokens in it) of every step; a fractional epoch stops part of the way."""
    left = num_optimizer_steps(len(examples), batch_size, epochs)
    epoch = 0
    while left > 0:
        for batch in length_grouped_batches(examples, batch_size, seed * 1000 + epoch):
            if left == 0:
                return
            left -= 1
            yield collate(batch, pad_token), sum(len(e.ids) for e in batch)
        epoch += 1


def probe(
    examples: Mapping[str, Sequence[Example]], documents: int, batch_size: int, pad_token: int
) -> dict[str, list[Batch]]:
    """Make batches of the first `documents` examples of each task, sorted by length, for allocators to read."""
    result = {}
    for task, task_examples in examples.items():
        chosen = sorted(task_examples[:documents], key=lambda e: len(e.ids))
        result[task] = [collate(chosen[i : i + batch_size], pad_token) for i in range(0, len(chosen), batch_size)]
    return result
