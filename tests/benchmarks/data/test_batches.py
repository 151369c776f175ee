"""Padding, labels, positions, the documents of a step and their order."""

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


def step_rows(step):
    return [row for batch in step[0] for row in rows(batch)]


@given(
    st.integers(1, 70), st.integers(1, 9), st.sampled_from([None, 1, 2, 5]), st.sampled_from([0.5, 1.0, 1.5, 2.0]),
    st.integers(0, 3),
)  # fmt: skip
def test_the_stream_has_the_announced_steps_and_every_document_once_an_epoch(count, size, micro, epochs, seed):
    steps = list(batches.stream(made(count), size, micro, epochs, seed, PAD))
    assert len(steps) == batches.num_optimizer_steps(count, size, epochs)
    seen = Counter(row for step in steps for row in step_rows(step))
    if epochs == int(epochs):
        assert seen == {e.ids: epochs for e in made(count)}
    assert all(tokens == sum(len(row) for row in step_rows(step)) for step in steps for tokens in step[1:])
    assert all(len(step_rows(step)) <= size for step in steps)
    assert all(len(batch["input_ids"]) <= (micro or size) for parts, _ in steps for batch in parts)
    assert max(seen.values(), default=0) <= -(-epochs // 1)


@given(st.integers(1, 70), st.integers(1, 9), st.integers(0, 3))
def test_the_same_seed_gives_the_same_order(count, size, seed):
    first, second = (list(batches.stream(made(count), size, 2, 1.0, seed, PAD)) for _ in range(2))
    for (ours, _), (theirs, _) in zip(first, second, strict=True):
        assert all(torch.equal(one[k], other[k]) for one, other in zip(ours, theirs, strict=True) for k in one)


def test_seeds_and_epochs_have_orders_of_their_own():
    orders = [[step_rows(step) for step in batches.stream(made(64), 4, 2, 2.0, seed, PAD)] for seed in (0, 1)]
    assert orders[0] != orders[1] and orders[0][:16] != orders[0][16:]


def mixture(documents=40, tasks=8):
    """Tasks whose documents are of a length of their own, as real ones nearly are."""
    return [Example(f"t{t}", (t, i, *range(10 * t)), 1, False) for t in range(tasks) for i in range(documents)]


def test_a_step_mixes_tasks_as_a_random_draw_does_though_every_task_has_its_length():
    steps = list(batches.drawn_steps(mixture(), 8, 1.0, 0))
    kinds = [len({e.task for e in step}) for step in steps]
    assert sum(kinds) / len(kinds) == pytest.approx(8 * (1 - (7 / 8) ** 8), abs=0.5)  # 5.25 of 8
    assert min(kinds) >= 3


def test_micro_batches_go_by_length_and_cost_little_padding():
    def padded(micro):
        steps = list(batches.stream(mixture(), 8, micro, 1.0, 0, PAD))
        return sum(b["input_ids"].numel() for parts, _ in steps for b in parts) / sum(tokens for _, tokens in steps)

    assert padded(1) == 1 and padded(2) < 1.15 < 1.5 < padded(None)


def test_the_longest_documents_of_a_cut_step_go_alone_and_a_whole_step_is_not_cut():
    lengths = [100, 120, 128, 130, 250, 250, 40, 50]
    examples = [Example("t", tuple(range(n)), 1, False) for n in lengths]
    ((cut, tokens),) = batches.stream(examples, 8, 2, 1.0, 0, PAD)
    assert [tuple(b["input_ids"].shape) for b in cut] == [(2, 50), (2, 120), (1, 128), (1, 130), (1, 250), (1, 250)]
    assert tokens == sum(lengths)
    ((whole, _),) = batches.stream(examples, 8, 8, 1.0, 0, PAD)
    assert [tuple(b["input_ids"].shape) for b in whole] == [(8, 250)]


def test_documents_by_step_are_those_of_the_stream():
    counts = batches.documents_by_step(mixture(), 8, 1.5, 3)
    for task, text in counts.items():
        steps = batches.stream(mixture(), 8, 2, 1.5, 3, PAD)
        assert [int(n) for n in text.split()] == [sum(f"t{row[0]}" == task for row in step_rows(s)) for s in steps]


def test_zero_epochs_are_no_steps():
    assert batches.num_optimizer_steps(100, 8, 0.0) == 0 and list(batches.stream(made(9), 4, 2, 0.0, 0, PAD)) == []


@pytest.mark.parametrize(("documents", "sizes"), [(3, [2, 1]), (4, [2, 2]), (99, [2, 2, 1])])
def test_a_probe_holds_the_first_documents_of_each_task(documents, sizes):
    found = batches.probe({"a": made(5), "b": made(5, seed=3)}, documents, 2, PAD)
    assert list(found) == ["a", "b"]
    assert [len(b["input_ids"]) for b in found["a"]] == sizes
    probed = {row for batch in found["b"] for row in rows(batch)}
    assert probed == {e.ids for e in made(5, seed=3)[:documents]}
