"""`--probe-router` evaluates a trained mixture again; the task router is told the task in training and evaluation."""

from __future__ import annotations

import pytest

from benchmarks.jobs.child import attempt
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from results.record import Record


@pytest.fixture(scope="module")
def records():
    methods = "molora,molora:router=uniform,molora:router=task:num_experts=5,lora"
    request = Request(
        model="tiny", dtype="float32", suite="nlu", train_documents=20, limit=2, probe_router=True, methods=methods
    )
    return [attempt(spec) for spec in resolve(request)]


def test_a_mixture_is_evaluated_with_shuffled_and_uniform_gates_beside_its_scores(records):
    learned = records[0]
    assert learned.status == "done", learned.error
    assert set(learned.variants) == {"shuffled", "uniform"}
    for scores in learned.variants.values():
        for task, score in scores.items():
            assert score.documents == learned.scores[task].documents
            assert score.loglikelihoods != learned.scores[task].loglikelihoods
    assert Record.from_json(learned.to_json()) == learned


def test_what_has_no_router_has_no_variants(records):
    assert [r.status for r in records] == ["done"] * 4, [r.error for r in records]
    assert [bool(r.variants) for r in records] == [True, False, False, False]
    assert [r.parameters.router for r in records] == [records[0].parameters.router, 0, 0, None]


def test_the_task_router_opens_one_expert_a_task(records):
    seen = records[2].facts["router"]
    for number, task in enumerate(records[2].spec.tasks):
        for block in seen[task].values():
            assert block["load"] == [float(e == number) for e in range(5)]


def test_the_probe_is_asked_for_in_the_spec_and_told_apart_by_its_key():
    specs = [resolve(Request(model="tiny", methods="molora", probe_router=on))[0] for on in (False, True)]
    assert specs[0].key != specs[1].key and not specs[0].probe_router


def test_the_task_router_is_refused_while_planning_where_experts_are_too_few():
    from benchmarks.models.load import TINY, skeleton
    from benchmarks.plan.parse import parse_methods

    for asked in ("molora:router=task", "lora-smoe:router=task", "experts:importance=uniform:router=task"):
        (method,) = parse_methods(asked)
        with pytest.raises(ValueError, match="router task needs an expert for each of 5 tasks"):
            method.check(skeleton(TINY), list("abcde"), 4)
