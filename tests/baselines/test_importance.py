"""Every importance of the folder keeps the contract, and each is what its formula says."""

from __future__ import annotations

import json
import math

import pytest
import torch
from accelerate.utils import set_seed
from transformers import AutoModelForCausalLM, LlamaConfig

from baselines.importance import EVERY, Importance, importance, importances
from baselines.importance.diversity import mean_states
from baselines.importance.gora import mean_gradients, union_mean
from baselines.importance.influence import inner_products
from benchmarks.plan.parse import parse_methods
from smoe import find_blocks, sensitivity
from smoe.gradients import sample_losses

ALL = sorted(importances())
MEASURED = [name for name in ALL if name in ("sensitivity", "sensitivity-released", "fim", "gora", "influence")]


@pytest.fixture
def blocks(tiny):
    return find_blocks(tiny)


def measure(name, tiny, probe, seed=3, most=4):
    return importance(name).measure(tiny, find_blocks(tiny), probe, most, seed)


@pytest.mark.parametrize("name", ALL)
def test_it_scores_every_block_of_every_task_finitely_and_says_so_in_json(name, tiny, probe):
    measured = measure(name, tiny, probe)
    assert set(measured.scores) == set(probe)
    for scores in measured.scores.values():
        assert list(scores) == list(find_blocks(tiny))
        assert all(0 <= s < math.inf for s in scores.values()) and any(scores.values())
    assert json.loads(json.dumps(measured.facts)) is not None


@pytest.mark.parametrize("name", ALL)
def test_the_model_and_the_generator_are_as_they_were_and_a_second_look_says_the_same(name, tiny, probe):
    before = [(p.clone(), p.requires_grad) for p in tiny.parameters()]
    tiny.train()
    state = torch.get_rng_state()
    first, second = measure(name, tiny, probe), measure(name, tiny, probe)
    assert first == second and torch.equal(state, torch.get_rng_state()) and tiny.training
    assert all(torch.equal(p, v) and p.requires_grad == r for p, (v, r) in zip(tiny.parameters(), before, strict=True))
    assert all(p.grad is None for p in tiny.parameters())


@pytest.mark.parametrize("name", ALL)
def test_it_is_spent_exactly_as_experts_and_as_ranks_whatever_the_rule(name, tiny, probe):
    for rule in ("none", "proportional", "greedy"):
        experts, ranks = parse_methods(
            f"experts:importance={name}:rule={rule}:total_experts=42,"
            f"ranks:importance={name}:rule={rule}:r=4:max_rank=8:total_ranks=56"
        )
        assert sum(experts.allocate(tiny, probe)[0].values()) == 42
        given, _ = ranks.allocate(tiny, probe)
        assert sum(given.values()) == 56 and max(given.values()) <= 14


@pytest.mark.parametrize("name", ALL)
def test_a_plan_refuses_what_it_could_not_give(name, tiny):
    (method,) = parse_methods(f"experts:importance={name}:rule=votes:total_experts=113")
    with pytest.raises(ValueError, match=r"experts: 113 experts are impossible .* nearest possible: total 112"):
        method.check(tiny, [f"task{i}" for i in range(8)], 4)


def test_an_importance_that_there_is_not_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="experts: unknown importance 'sensitivty'; did you mean sensitivity"):
        parse_methods("experts:importance=sensitivty")


def test_a_file_of_the_folder_that_is_incomplete_is_named(monkeypatch):
    from baselines.importance import random as file

    class Half(Importance):
        name = "half"
        summary = source = "-"

    Half.__module__ = file.__name__
    monkeypatch.setattr(file, "Half", Half, raising=False)
    importances.cache_clear()
    with pytest.raises(ValueError, match=r"baselines.importance.random: class Half does not define measure"):
        importances()
    monkeypatch.undo()
    importances.cache_clear()
    assert "random" in importances()


# --- what each is


def test_random_draws_by_allocation_seed_or_by_the_runs(tiny, probe):
    set_seed(0)
    first = measure("random", tiny, probe, seed=None)
    set_seed(0)
    assert measure("random", tiny, probe, seed=None) == first != measure("random", tiny, probe, seed=None)
    assert measure("random", tiny, probe, seed=1) != measure("random", tiny, probe, seed=2)
    assert set(importance("random").measure(tiny, find_blocks(tiny), {}, 4, 1).scores) == {EVERY}


def test_fim_is_sensitivity_per_weight(tiny, probe, blocks):
    per_weight, whole = measure("fim", tiny, probe).scores, measure("sensitivity", tiny, probe).scores
    for task, scores in per_weight.items():
        for block, score in scores.items():
            assert score * blocks[block].weight.numel() == pytest.approx(whole[task][block], rel=1e-12)


def test_fim_is_the_expected_squared_gradient_of_a_fresh_loras_b():
    """CONTESTANTS 3.2: E_A[mean (dL/dB)^2] = s^2 ||dW||^2 / (3 I O), over 2000 draws of A, within 3 standard errors."""
    torch.manual_seed(0)
    inputs, outputs, rank, scale = 24, 10, 4, 2.0
    gradient = torch.randn(outputs, inputs, dtype=torch.float64)
    draws = []
    for _ in range(2000):
        a = torch.empty(rank, inputs, dtype=torch.float64)
        torch.nn.init.kaiming_uniform_(a, a=math.sqrt(5))  # as PEFT does
        b = torch.zeros(outputs, rank, dtype=torch.float64, requires_grad=True)
        (gradient * (scale * b @ a)).sum().backward()
        draws.append(float(b.grad.square().mean()))
    draws = torch.tensor(draws, dtype=torch.float64)
    expected = scale**2 * float(gradient.square().sum()) / (3 * inputs * outputs)
    assert abs(float(draws.mean()) - expected) < 3 * float(draws.std()) / math.sqrt(len(draws))


def test_influence_of_a_sample_on_itself_is_its_sensitivity(tiny, probe, blocks):
    for batches in list(probe.values())[:2]:
        products = inner_products(tiny, blocks, batches, "t")
        scores = sensitivity(tiny, {"t": batches}).values["t"]
        for block, of_block in products.items():
            assert of_block.diagonal().tolist() == pytest.approx(list(scores[block]), rel=1e-4)
    alone = {"t": [{k: v[:1] for k, v in probe["task0"][0].items()}]}
    single = importance("influence").measure(tiny, blocks, alone, 4, None).scores["t"]
    assert single == pytest.approx(sensitivity(tiny, alone).scores["t"], rel=1e-4)


def test_influence_is_the_inner_product_of_two_samples_gradients(tiny, probe, blocks):
    batch = probe["task0"][0]
    gradients = []
    for row in range(2):
        tiny.requires_grad_(True)
        sample_losses(tiny, {k: v[row : row + 1] for k, v in batch.items()}, "t").sum().backward()
        gradients.append({b: m.weight.grad.clone() for b, m in blocks.items()})
        tiny.zero_grad()
    tiny.requires_grad_(False)
    for block, products in inner_products(tiny, blocks, [batch], "t").items():
        expected = float((gradients[0][block] * gradients[1][block]).sum())
        assert float(products[0, 1]) == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_gora_is_the_mean_of_weight_times_mean_gradient(tiny, probe, blocks):
    batches = [*probe["task0"], *probe["task1"]]
    found = mean_gradients(tiny, blocks, batches, "t")
    tiny.requires_grad_(True)
    (sum(sample_losses(tiny, batch, "t").sum() for batch in batches) / 4).backward()
    for block, module in blocks.items():
        torch.testing.assert_close(found[block], module.weight.grad, rtol=1e-4, atol=1e-8)
        expected = float((module.weight * module.weight.grad).abs().mean())
        assert union_mean(blocks, found)[block] == pytest.approx(expected, rel=1e-4)


def test_diversity_is_one_minus_the_cosine_of_the_tasks_mean_states(tiny, probe):
    two = {task: probe[task] for task in ("task0", "task1")}
    a, b = (mean_states(tiny, batches) for batches in two.values())
    scores = measure("diversity", tiny, two).scores["task0"]
    for layer in range(2):
        expected = 1 - float(torch.cosine_similarity(a[layer], b[layer], dim=0))
        assert scores[f"model.layers.{layer}.mlp.up_proj"] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="compares tasks, and there is one"):
        measure("diversity", tiny, {"task0": probe["task0"]})
    (method,) = parse_methods("experts:importance=diversity")
    with pytest.raises(ValueError, match=r"importance diversity compares tasks and needs 2 .* here 1"):
        method.check(tiny, ["a"], 4)


@pytest.mark.parametrize("name", MEASURED)
def test_a_block_that_cannot_move_the_answer_scores_nothing(name, probe):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=258, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").requires_grad_(False)
    model.model.layers[1].mlp.down_proj.weight.data.zero_()  # nothing of gate and up comes through
    scores = importance(name).measure(model, find_blocks(model), probe, 4, None).scores["task0"]
    assert scores["model.layers.1.mlp.up_proj"] == scores["model.layers.1.mlp.gate_proj"] == 0
    assert scores["model.layers.0.mlp.up_proj"] > 0 or name == "sensitivity-released"


# --- what the general forms are


@pytest.mark.parametrize(
    ("general", "preset"),
    [
        ("experts", "lora-smoe"),
        ("experts:importance=sensitivity-released", "smoe-released"),
        ("experts:rule=proportional:max_experts=8", "smoe-proportional"),
        ("experts:grouping=global", "smoe-global"),
        ("experts:importance=alpha", "alphalora"),
        ("experts:importance=eva", "eva-experts"),
        ("experts:importance=mola-diamond:top_k=2", "mola:shape=diamond:mean_experts=4"),
        ("experts:order=shuffled:allocation_seed=3", "random-experts:allocation_seed=3"),
        ("experts:order=reversed", "inverse-experts"),
        ("experts:importance=uniform", "molora"),
        ("ranks:importance=uniform:r=8", "ranks:importance=mola-rectangle:r=8"),
        ("ranks", "sensitive-ranks"),
    ],
)
def test_a_preset_places_capacity_as_its_general_form_does(general, preset, tiny, probe):
    placed = [method.allocate(tiny, probe)[0] for method in parse_methods(f"{general},{preset}")]
    assert placed[0] == placed[1]
