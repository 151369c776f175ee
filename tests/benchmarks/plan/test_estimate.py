"""How long a job should take: from records of the very job where there are any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.plan.estimate import estimate_seconds
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from results import Record, Score
from results.comparable import repeat_key
from results.metrics import wall_seconds
from results.record import Cost
from results.store import Store

RECORDS = Path(__file__).resolve().parents[3] / "results" / "records"
HERE = {"cpu_model": "Test CPU", "cpu_count": 2}
MAIN = (1.0, 2.0, 10.0, 5.0)  # seconds of the phases


def asked(**changes):
    return resolve(Request(**{"methods": "lora", "model": "tiny", "device": "cpu", **changes}))


def record_of(spec, seconds=MAIN, around=None, **environment):
    score = Score(metric="acc", value=1.0, stderr=None, count=1, all_metrics={}, documents=("a",), outcomes=(1.0,))
    costs = {
        phase: Cost(
            wall_seconds=s, tokens=None, peak_allocated_bytes=None, peak_reserved_bytes=None, peak_resident_bytes=None
        )
        for phase, s in zip(("load", "allocate", "train", "evaluate"), seconds, strict=True)
    }
    further = {} if around is None else {"start": around, "prepare": 0.5, "describe": 0.25, "save": 0.25}
    costs |= {phase: replace(costs["load"], wall_seconds=s) for phase, s in further.items()}
    counts = {"train_documents": spec.train_documents // 8, "evaluation_documents": spec.evaluation_limit}
    return Record(
        spec=spec, status="done", error=None, scores=dict.fromkeys(spec.tasks, score), parameters=None, costs=costs,
        losses=None, facts={}, data=dict.fromkeys(spec.tasks, counts),
        environment={"timestamp": "2026", **HERE, **environment},
    )  # fmt: skip


def test_time_is_estimated_in_proportion_to_the_documents():
    (had,) = asked(train_documents=80, limit=4)
    (wanted,) = asked(train_documents=240, limit=8)
    assert estimate_seconds(wanted, [record_of(had, (1.0, 2.0, 10.0, 5.0))]) == pytest.approx(1 + 2 + 30 + 10)
    assert estimate_seconds(wanted, []) is None


def test_time_is_not_estimated_from_another_model_or_from_a_run_without_training():
    (frozen,) = asked(methods="frozen", train_documents=80, limit=4)
    (other,) = asked(model="smollm2-135m", train_documents=80, limit=4)
    (wanted,) = asked(train_documents=80, limit=4)
    assert estimate_seconds(wanted, [record_of(s, (1.0, 1.0, 1.0, 1.0)) for s in (frozen, other)]) is None


def test_the_very_job_tells_more_than_a_larger_one_that_came_later():
    (had,) = asked(train_documents=80, limit=4)
    (larger,) = asked(train_documents=800, limit=40)
    (wanted,) = asked(train_documents=80, limit=4, seeds="1")
    records = [record_of(had, around=7.0), record_of(larger, (9.0, 9.0, 500.0, 90.0), around=9.0, timestamp="2027")]
    for order in (records, records[::-1]):
        assert estimate_seconds(wanted, order, HERE) == pytest.approx(sum(MAIN) + 8)


def test_repeats_give_their_median_and_other_machines_and_shared_ones_come_later():
    wanted, *repeats = asked(train_documents=80, limit=4, seeds="0-5")
    seconds = ((1, 1, 1, 1), (2, 2, 2, 2), (4, 4, 4, 4))
    records = [record_of(spec, tuple(map(float, s))) for spec, s in zip(repeats, seconds, strict=False)]
    elsewhere = record_of(repeats[3], (99.0,) * 4, cpu_model="Other CPU", timestamp="2028")
    shared = record_of(repeats[4], (50.0,) * 4, shared_machine=True, timestamp="2028")
    assert estimate_seconds(wanted, [*records, elsewhere, shared], HERE) == pytest.approx(8)
    assert estimate_seconds(wanted, [elsewhere], HERE) == pytest.approx(396)


def test_of_one_job_at_two_commits_the_newer_code_tells():
    wanted, first, second = asked(train_documents=80, limit=4, seeds="0-2")
    old = record_of(first, (9.0,) * 4, git_commit="a", timestamp="2025")
    new = record_of(second, (3.0,) * 4, git_commit="b", timestamp="2026")
    assert estimate_seconds(wanted, [new, old], HERE) == pytest.approx(12)


def test_the_start_of_a_job_counts_though_the_record_does_not_tell_it():
    first, wanted = asked(train_documents=80, limit=4, seeds="0,1")
    (other,) = asked(methods="molora", train_documents=80, limit=4)
    assert estimate_seconds(wanted, [record_of(first)], HERE, start=6.0) == pytest.approx(sum(MAIN) + 6)
    known = [record_of(first), record_of(other, around=2.0)]
    assert estimate_seconds(wanted, known, HERE, start=6.0) == pytest.approx(sum(MAIN) + 3)


def test_committed_repeats_are_estimated_from_each_other_within_thirty_percent():
    records = [r for r in Store(RECORDS / "main").all() if r.status == "done"]
    records = [r for r in records if not r.environment.get("shared_machine")]  # whose times mean nothing
    checked = 0
    for record in records:
        others = [r for r in records if r.key != record.key]
        if any(repeat_key(r.spec) == repeat_key(record.spec) for r in others):
            here = {name: record.environment.get(name) for name in ("cpu_model", "cpu_count", "threads")}
            assert estimate_seconds(record.spec, others, here) == pytest.approx(wall_seconds(record), rel=0.3)
            checked += 1
    assert checked >= 3
