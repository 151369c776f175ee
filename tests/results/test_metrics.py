"""Each metric is read from the record as its row says, and what is missing stays None."""

from __future__ import annotations

import dataclasses

import pytest
from synthetic_records import make_failed, make_record

from results.metrics import METRICS, macro_accuracy, metric, micro_accuracy, peak_bytes, wall_seconds
from results.record import Cost, Score


def _score(value, count):
    outcomes = [1.0] * round(value * count) + [0.0] * (count - round(value * count))
    return Score(
        metric="acc", value=value, stderr=None, count=count, all_metrics={}, documents=["d"] * count, outcomes=outcomes
    )


def _record(**changes):
    return dataclasses.replace(make_record("lora", tasks=("a", "b")), **changes)


def test_macro_weighs_tasks_and_micro_weighs_documents():
    record = _record(scores={"a": _score(0.5, 10), "b": _score(1.0, 30)})
    assert macro_accuracy(record) == pytest.approx(0.75)
    assert micro_accuracy(record) == pytest.approx(0.875)


def test_every_metric_of_a_failed_record_is_none_or_measured():
    failed = make_failed("lora")
    values = {row.name: row.get(failed) for row in METRICS}
    assert values.pop("load_seconds") == 1.0 and values.pop("total_seconds") == 1.0
    assert set(values.values()) == {None}


def test_what_was_pruned_is_not_active():
    adalora = make_record("adalora")
    assert metric("active_params").get(adalora) == adalora.parameters.trainable // 2
    assert metric("active_params").get(make_record("lora")) == make_record("lora").parameters.active_per_token


def test_peak_is_resident_on_a_cpu_and_allocated_on_cuda():
    costs = {
        p: Cost(wall_seconds=1.0, tokens=0, peak_allocated_bytes=a, peak_reserved_bytes=9, peak_resident_bytes=r)
        for p, a, r in (("load", 1, 10), ("train", 5, 50), ("evaluate", None, None))
    }
    assert peak_bytes(_record(costs=costs)) == 50
    cuda = dataclasses.replace(make_record("lora", tasks=("a", "b"), device="cuda"), costs=costs)
    assert peak_bytes(cuda) == 5 and metric("peak_load_bytes").get(cuda) == 1
    assert metric("peak_allocate_bytes").get(cuda) is None and metric("peak_evaluate_bytes").get(cuda) is None


def test_time_adds_phases_and_speed_needs_tokens():
    cost = dict(peak_allocated_bytes=None, peak_reserved_bytes=None, peak_resident_bytes=None)
    costs = {
        "train": Cost(wall_seconds=2.0, tokens=100, **cost),
        "evaluate": Cost(wall_seconds=3.0, tokens=None, **cost),
    }
    record = _record(costs=costs)
    assert wall_seconds(record) == 5.0 and wall_seconds(record, "load") is None
    assert metric("train_speed").get(record) == 50.0 and metric("evaluate_speed").get(record) is None


def test_names_are_unique_and_an_unknown_one_lists_the_nearest():
    assert len({row.name for row in METRICS}) == len(METRICS)
    assert all(row.direction in ("higher", "lower") and row.label and row.unit for row in METRICS)
    with pytest.raises(ValueError, match="macro_accuracy"):
        metric("macro_acuracy")


def test_every_metric_of_a_finished_record_can_be_formatted():
    record = make_record("lora-smoe", layers=2)
    for row in METRICS:
        value = row.get(record)
        assert value is None or format(value, row.format)


def test_a_record_of_a_shared_machine_gives_no_times_but_everything_else():
    alone, shared = make_record(), make_record(env={"shared_machine": True})
    timed = [m for m in METRICS if m.unit in ("seconds", "tokens/second")]
    assert any(m.get(alone) is not None for m in timed) and all(m.get(shared) is None for m in timed)
    rest = [m for m in METRICS if m not in timed]
    assert [m.get(alone) for m in rest] == [m.get(shared) for m in rest]
