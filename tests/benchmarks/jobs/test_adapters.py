"""One adapter for each task, so that what tasks do to each other can be measured."""

from __future__ import annotations

import pytest

from benchmarks.jobs.child import attempt
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from results.adapters import joined

SIZE = dict(model="tiny", methods="lora-smoe:mean_experts=1", device="cpu", dtype="float32", limit=2, batch_size=4)
TASKS = ("sst2", "copa")


def run(tasks, documents, **more):
    specs = resolve(Request(tasks=",".join(tasks), train_documents=documents, **SIZE, **more))
    records = [attempt(spec) for spec in specs]
    assert [record.error for record in records] == [None] * len(specs)
    return records


@pytest.fixture(scope="module")
def adapters():
    return run(TASKS, 16, adapters="per-task")


@pytest.fixture(scope="module")
def alone():
    """A run of either task alone, on the same documents."""
    return [record for task in TASKS for record in run((task,), 8)]


def test_every_task_s_adapter_is_a_job_of_its_own_with_a_key_of_its_own(adapters):
    assert [record.spec.task for record in adapters] == list(TASKS)
    assert len({record.key for record in adapters}) == len(TASKS)
    assert all(set(record.scores) == {record.spec.task} == set(record.data) for record in adapters)


def test_an_adapter_of_its_own_is_what_a_run_on_that_task_alone_gives(adapters, alone):
    for record, expected in zip(adapters, alone, strict=True):
        assert record.losses == expected.losses and record.scores == expected.scores
        assert record.facts == expected.facts and record.data == expected.data
        assert record.parameters == expected.parameters


def test_both_ways_train_on_the_same_documents_and_differ_in_the_key(adapters):
    (shared,) = run(TASKS, 16)
    (single,) = joined(adapters)
    alone, both = (
        {task: {k: v for k, v in entry.items() if k != "step_documents"} for task, entry in record.data.items()}
        for record in (single, shared)  # a step draws from one task there, from both here
    )
    assert alone == both and single.costs["train"].tokens == shared.costs["train"].tokens
    assert single.spec.tasks == shared.spec.tasks and set(single.scores) == set(shared.scores)
    assert single.spec.adapters == "per-task" and single.key != shared.key


def test_parameters_of_the_row_add_up_with_the_model_counted_once(adapters):
    (single,) = (record.parameters for record in joined(adapters))
    own = [record.parameters for record in adapters]
    base = own[0].total - own[0].trainable
    assert single.trainable == sum(p.trainable for p in own) and single.total == base + single.trainable
    assert single.adapter_bytes == sum(p.adapter_bytes for p in own)
    assert single.active_per_token == max(p.active_per_token for p in own)
