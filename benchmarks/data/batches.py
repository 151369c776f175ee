"""Examples -> padded token batches, grouped by length, in an order that the seed alone decides.

Padding is on the left: answers then end together, and logits are needed at the last few positions only.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

import torch

from benchmarks.data.examples import Example

Batch = dict[str, torch.Tensor]  # "input_ids", "attention_mask", "position_ids", "labels": each (B, S)
POOL = 16  # batches that are sorted by length together: little padding, yet nearly random order


def collate(examples: Sequence[Example], pad_token: int) -> Batch:
    """Left-padded tensors; labels are -100 everywhere but on the answer."""
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


def grouped(examples: Sequence[Example], batch_size: int, seed: int) -> Iterator[list[Example]]:
    """One epoch: shuffle, sort pools of POOL batches by length, cut, and shuffle the batches of each pool."""
    rng = random.Random(seed)
    order = rng.sample(list(examples), len(examples))
    for start in range(0, len(order), POOL * batch_size):
        pool = sorted(order[start : start + POOL * batch_size], key=lambda e: len(e.ids))
        batches = [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
        yield from rng.sample(batches, len(batches))


def steps(documents: int, batch_size: int, epochs: float) -> int:
    """Optimiser steps that `stream` yields for so many documents."""
    return round(-(-documents // batch_size) * epochs)


def stream(
    examples: Sequence[Example], batch_size: int, epochs: float, seed: int, pad_token: int
) -> Iterator[tuple[Batch, int]]:
    """(batch, real tokens in it) of every step; a fractional epoch stops part of the way."""
    left = steps(len(examples), batch_size, epochs)
    epoch = 0
    while left > 0:
        for batch in grouped(examples, batch_size, seed * 1000 + epoch):
            if left == 0:
                return
            left -= 1
            yield collate(batch, pad_token), sum(len(e.ids) for e in batch)
        epoch += 1


def probe(
    examples: Mapping[str, Sequence[Example]], documents: int, batch_size: int, pad_token: int
) -> dict[str, list[Batch]]:
    """The first `documents` examples of each task as batches, sorted by length, for allocators to read."""
    result = {}
    for task, found in examples.items():
        chosen = sorted(found[:documents], key=lambda e: len(e.ids))
        result[task] = [collate(chosen[i : i + batch_size], pad_token) for i in range(0, len(chosen), batch_size)]
    return result
