"""`--mixture single`: one adapter for each task, so that what tasks do to each other can be measured."""

from __future__ import annotations

import pytest

from benchmarks.jobs.job import add_cost, all_parameters, attempt
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from results import Cost, Parameters

SIZE = dict(model="tiny", methods="lora-smoe:mean_experts=1", device="cpu", dtype="float32", limit=2, batch_size=4)
TASKS = ("sst2", "copa")


def run(tasks, documents, **more):
    (spec,) = resolve(Request(tasks=",".join(tasks), train_documents=documents, **SIZE, **more))
    record = attempt(spec, lambda phase, done, total: None)
    assert record.error is None, record.error
    return record


@pytest.fixture(scope="module")
def records():
    """One adapter for each task, one for both, and a run of either task alone, on the same documents."""
    return run(TASKS, 16, mixture="single"), run(TASKS, 16), *(run((task,), 8) for task in TASKS)


def test_an_adapter_of_its_own_is_what_a_run_on_that_task_alone_gives(records):
    single, _, *alone = records
    assert single.losses == tuple(loss for record in alone for loss in record.losses)
    for task, record in zip(TASKS, alone, strict=True):
        assert single.scores[task] == record.scores[task]
        assert single.facts["adapters"][task] == record.facts and single.data[task] == record.data[task]


def test_both_ways_train_on_the_same_documents_and_differ_in_the_key(records):
    single, multi, *_ = records
    assert single.data == multi.data and single.costs["train"].tokens == multi.costs["train"].tokens
    assert single.spec.adapters == "per-task" and single.key != multi.key


def test_parameters_add_up_with_the_model_counted_once(records):
    single, _, *alone = (r.parameters for r in records)
    base = alone[0].total - alone[0].trainable
    assert single.trainable == sum(p.trainable for p in alone) and single.total == base + single.trainable
    assert single.adapter_bytes == sum(p.adapter_bytes for p in alone)
    assert single.active_per_token == max(p.active_per_token for p in alone)


def test_seconds_and_tokens_add_up_and_peaks_do_not():
    def cost(seconds, tokens, peak):
        return Cost(
            wall_seconds=seconds, tokens=tokens, peak_allocated_bytes=None, peak_reserved_bytes=None,
            peak_resident_bytes=peak,
        )  # fmt: skip

    costs = {}
    for found in (cost(1.0, 10, 7), cost(2.0, 5, 9), cost(4.0, 1, 8)):
        add_cost(costs, "train", found)
    assert costs == {"train": cost(7.0, 16, 9)}


def test_what_is_not_known_of_one_adapter_is_not_known_of_all():
    known = Parameters(
        total=110, trainable=10, experts=8, router=2, active_per_token=10, after_pruning=10, adapter_bytes=40
    )
    unknown = Parameters(
        total=104, trainable=4, experts=None, router=None, active_per_token=4, after_pruning=4, adapter_bytes=16
    )
    found = all_parameters([known, unknown], 100)
    assert (found.total, found.trainable, found.experts, found.active_per_token) == (114, 14, None, 10)
