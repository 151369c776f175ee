"""LoRA-SMoE with fewer tasks than its budget has votes: the proportional rule, and nothing else changed."""

from __future__ import annotations

import pytest

from baselines.methods.lora_smoe import LoraSMoE
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import placing, resolve

SHAPES = {f"model.layers.{i}.{p}": (32, 32) for i in range(2) for p in ("self_attn.q_proj", "mlp.up_proj")}


@pytest.mark.parametrize("budget", [{}, {"mean_experts": None, "total_experts": 16}])
def test_votes_that_cannot_meet_the_budget_become_shares_of_at_most_eight(budget):
    asked = LoraSMoE(**budget)
    for tasks in (["a"], ["a", "b"], ["a", "b", "c"]):
        placed = asked.for_tasks(tasks, lambda: SHAPES)
        assert (placed.rule, placed.max_experts, placed.budget) == ("proportional", 8, asked.budget)
    assert asked.for_tasks(list("abcd"), lambda: SHAPES) == asked


@pytest.mark.parametrize("settings", [{"mean_experts": 1}, {"rule": "proportional"}, {"mean_experts": 99}])
def test_what_votes_can_meet_what_was_asked_and_what_nothing_can_meet_stays(settings):
    asked = LoraSMoE(**settings)
    assert asked.for_tasks(["a"], lambda: SHAPES) == asked


def test_a_budget_in_parameters_is_met_too_and_the_plan_says_the_rule():
    specs = resolve(Request(tasks="arc_easy", model="tiny", methods="lora,lora-smoe", device="cpu", match="params"))
    rule = {spec.method: spec.hyperparameters.get("rule") for spec in specs}
    assert rule == {"lora": None, "lora-smoe": "proportional"}
    assert ["lora-smoe: the tasks trained together have too few votes" in line for line in placing(specs)] == [True]
    (alone,) = resolve(Request(tasks="arc_easy", model="tiny", methods="lora-smoe:mean_experts=1", device="cpu"))
    assert (alone.hyperparameters["rule"], placing([alone])) == ("votes", [])
    per_task = resolve(Request(model="tiny", methods="lora-smoe", device="cpu", adapters="per-task"))
    assert {spec.hyperparameters["rule"] for spec in per_task} == {"proportional"}
    (whole,) = resolve(Request(model="tiny", methods="lora-smoe", device="cpu"))
    assert whole.hyperparameters["rule"] == "votes"
