"""Padding, labels, positions and the order of batches."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.data import batches
from benchmarks.data.examples import Example

PAD = 257


def made(count, seed=0):
    """Examples that can be told apart by their first token, of lengths 3 to 20."""
    return [Example("task", (1000 + i, *range((i * 7 + seed) % 18 + 2)), 1 + i % 2, False) for i in range(count)]


def test_a_batch_is_padded_on_the_left_and_labelled_on_the_answers():
    batch = batches.collate([Example("t", (5, 6, 7, 8), 2, False), Example("t", (9, 3), 1, False)], PAD)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [PAD, PAD, 9, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3], [0, 0, 0, 1]]
    assert batch["labels"].tolist() == [[-100, -100, 7, 8], [-100, -100, -100, 3]]
    assert all(t.dtype == torch.int64 for t in batch.values())


def rows(batch):
    pairs = zip(batch["input_ids"], batch["attention_mask"], strict=True)
    return [tuple(ids[mask.bool()].tolist()) for ids, mask in pairs]


@given(st.integers(1, 70), st.integers(1, 9), st.sampled_from([0.5, 1.0, 1.5, 2.0]), st.integers(0, 3))
def test_the_stream_has_the_announced_steps_and_every_document_once_an_epoch(count, size, epochs, seed):
    found = list(batches.stream(made(count), size, epochs, seed, PAD))
    assert len(found) == batches.num_optimizer_steps(count, size, epochs)
    seen = Counter(row for batch, _ in found for row in rows(batch))
    if epochs == int(epochs):
        assert seen == {e.ids: epochs for e in made(count)}
    assert all(tokens == batch["attention_mask"].sum() for batch, tokens in found)
    assert all(len(batch["input_ids"]) <= size for batch, _ in found)
    assert max(seen.values(), default=0) <= -(-epochs // 1)


@given(st.integers(1, 70), st.integers(1, 9), st.integers(0, 3))
def test_the_same_seed_gives_the_same_order(count, size, seed):
    first, second = (list(batches.stream(made(count), size, 1.0, seed, PAD)) for _ in range(2))
    for (ours, _), (theirs, _) in zip(first, second, strict=True):
        assert all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_seeds_and_epochs_have_orders_of_their_own():
    orders = [[rows(b) for b, _ in batches.stream(made(64), 4, 2.0, seed, PAD)] for seed in (0, 1)]
    assert orders[0] != orders[1] and orders[0][:16] != orders[0][16:]


def test_batches_are_grouped_by_length():
    """Padding over a pool costs far less than in random batches; 16 batches of 8 make a pool."""
    found = list(batches.stream(made(128), 8, 1.0, 0, PAD))
    padded = sum(batch["input_ids"].numel() for batch, _ in found)
    assert padded < 1.15 * sum(tokens for _, tokens in found)


def test_zero_epochs_are_no_steps():
    assert batches.num_optimizer_steps(100, 8, 0.0) == 0 and list(batches.stream(made(9), 4, 0.0, 0, PAD)) == []


@pytest.mark.parametrize(("documents", "sizes"), [(3, [2, 1]), (4, [2, 2]), (99, [2, 2, 1])])
def test_a_probe_holds_the_first_documents_of_each_task(documents, sizes):
    found = batches.probe({"a": made(5), "b": made(5, seed=3)}, documents, 2, PAD)
    assert list(found) == ["a", "b"]
    assert [len(b["input_ids"]) for b in found["a"]] == sizes
    probed = {row for batch in found["b"] for row in rows(batch)}
    assert probed == {e.ids for e in made(5, seed=3)[:documents]}
