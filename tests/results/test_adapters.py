"""The jobs of an adapter for each task become one record over all the tasks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from synthetic_records import make_failed, make_record

from results import Cost
from results.adapters import joined
from results.metrics import macro_accuracy


def per_task(record):
    """The record as one for each task, of which the n-th cost n times as much."""
    records = []
    for n, task in enumerate(record.spec.tasks, start=1):
        costs = {
            phase: Cost(
                wall_seconds=float(n), tokens=10 * n, peak_allocated_bytes=None, peak_reserved_bytes=None,
                peak_resident_bytes=100 - n,
            )
            for phase in record.costs
        }  # fmt: skip
        spec = replace(record.spec, task=task, adapters="per-task")
        own = dict(scores={task: record.scores[task]}, data={task: record.data.get(task)}, losses=(float(n),))
        records.append(replace(record, spec=spec, costs=costs, facts={"n": n}, **own))
    return records


@pytest.fixture
def record():
    return make_record()


def test_a_row_has_every_task_s_score_and_the_losses_in_the_order_of_the_tasks(record):
    adapters = per_task(record)
    (row,) = joined(reversed(adapters))
    assert row.status == "done" and row.scores == record.scores and row.spec.task is None
    assert macro_accuracy(row) == macro_accuracy(record)
    assert row.losses == tuple(float(n) for n in range(1, len(adapters) + 1))
    assert row.facts["adapters"] == {r.spec.task: r.facts for r in adapters}


def test_a_row_of_which_others_measured_a_part_is_contributed(record):
    first, *rest = per_task(record)
    assert not joined([first, *rest])[0].contributed
    assert joined([first, replace(rest[0], contributed=True), *rest[1:]])[0].contributed


def test_seconds_and_tokens_add_up_and_peaks_do_not(record):
    adapters = per_task(record)
    (row,) = joined(adapters)
    total = sum(range(1, len(adapters) + 1))
    cost = row.costs["train"]
    assert (cost.wall_seconds, cost.tokens, cost.peak_resident_bytes) == (total, 10 * total, 99)
    assert cost.peak_allocated_bytes is None


def test_what_is_not_known_of_one_adapter_is_not_known_of_all_and_the_model_counts_once(record):
    adapters = per_task(record)
    known = replace(record.parameters, total=110, trainable=10, experts=8, active_per_token=10, adapter_bytes=40)
    unknown = replace(known, total=104, trainable=4, experts=None, active_per_token=4)
    (row,) = joined([replace(r, parameters=unknown if n else known) for n, r in enumerate(adapters)])
    others = len(adapters) - 1
    assert (row.parameters.total, row.parameters.trainable) == (110 + 4 * others, 10 + 4 * others)
    assert (row.parameters.experts, row.parameters.active_per_token) == (None, 10)


def test_a_row_is_failed_while_an_adapter_is_missing_or_failed(record):
    first, second, *rest = per_task(record)
    (row,) = joined([first, *rest])
    assert row.status == "failed" and f"no adapter for {second.spec.task}" in row.error
    broken = replace(second, status="failed", error="out of memory", scores=None, parameters=None, losses=None)
    (row,) = joined([first, broken, *rest])
    assert row.status == "failed" and f"{second.spec.task}: out of memory" in row.error
    assert set(row.scores) == {r.spec.task for r in (first, *rest)}


def test_other_records_stay_as_they_are_and_seeds_are_rows_of_their_own(record):
    failed = make_failed("dora")
    adapters = per_task(record)
    other_seed = [replace(r, spec=replace(r.spec, seed=r.spec.seed + 1)) for r in adapters]
    rows = joined([record, *adapters, failed, *other_seed])
    assert rows[0] == record and rows[2] == failed and len(rows) == 4
