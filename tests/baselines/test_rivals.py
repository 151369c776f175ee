"""What rivals from the literature promise beyond the contract: starts, pruning, and refusals."""

from __future__ import annotations

import math

import pytest
import torch
from peft import get_peft_model
from torch import nn

from baselines.methods.rivals.dmep import Dmep, most_used
from baselines.methods.rivals.goat import Goat
from baselines.methods.rivals.mixlora import MixLora
from benchmarks.jobs.train import train
from benchmarks.models.load import TINY, skeleton
from benchmarks.plan.parse import parse_methods
from smoe import SMoEConfig, block_params, block_shapes, smoe_layers

INPUTS, OUTPUTS, EXPERTS, RANK = 24, 20, 4, 3
TASKS = tuple(f"task{i}" for i in range(8))


class One(nn.Module):
    def __init__(self, inputs=INPUTS, outputs=OUTPUTS):
        super().__init__()
        self.block = nn.Linear(inputs, outputs, bias=False)

    def forward(self, x):
        return self.block(x)


def goat_layer(method, seed=0, **changes):
    torch.manual_seed(seed)
    base = One()
    weight = base.block.weight.detach().double().clone()
    settings = {**method.settings(), "target_modules": ["block"], "num_experts": EXPERTS, **changes}
    model = get_peft_model(base, SMoEConfig(**settings))
    (layer,) = smoe_layers(model).values()
    return model, layer, weight


# --- goat


@pytest.mark.parametrize("asked", ["goat", "goat:scale=paper", "goat:scale=2", "goat:residual=false"])
def test_goat_s_experts_are_segments_of_the_spectrum_and_their_mean_is_taken_out(asked):
    (method,) = parse_methods(f"{asked}:r={RANK}")
    _, layer, weight = goat_layer(method)
    scale = {"goat": 64 / RANK, "goat:scale=paper": math.sqrt(3 * INPUTS / RANK), "goat:scale=2": 2.0}.get(
        asked, 64 / RANK
    )
    u, s, vt = torch.linalg.svd(weight, full_matrices=False)
    a, b = layer.smoe_A["default"].double(), layer.smoe_B["default"].double()
    taken = torch.zeros_like(weight)
    for e in range(EXPERTS):
        rows = slice(e * RANK, (e + 1) * RANK)
        start = e * (min(INPUTS, OUTPUTS) // EXPERTS)
        segment = sum(s[i] * torch.outer(u[:, i], vt[i]) for i in range(start, start + RANK)) / (scale * 10)
        torch.testing.assert_close(b[:, rows] @ a[rows], segment, rtol=1e-4, atol=1e-6)
        taken = taken + scale / EXPERTS * segment
    expected = weight if "residual" in asked else weight - taken
    torch.testing.assert_close(layer.get_base_layer().weight.double(), expected, rtol=1e-4, atol=1e-5)
    assert float(taken.norm()) > 0.01 * float(weight.norm())


def test_goat_at_the_width_of_smollm2_has_the_scales_16_and_20_8():
    released, paper = parse_methods("goat,goat:scale=paper")
    scales = []
    for method in (released, paper):
        settings = {**method.settings(), "target_modules": ["block"], "init_weights": True}
        (layer,) = smoe_layers(get_peft_model(One(576, 64), SMoEConfig(**settings))).values()
        scales.append(layer.scales["default"])
    assert scales == [16, pytest.approx(20.78, abs=0.01)]


def test_goat_with_an_even_soft_router_is_exactly_the_base():
    model, layer, weight = goat_layer(Goat(r=RANK, top_k=None))
    layer.smoe_A["default"].data[EXPERTS * RANK :] = 0
    x = torch.randn(30, INPUTS)
    torch.testing.assert_close(model(x).double(), x.double() @ weight.T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("top_k", [None, 1, 2])
def test_goat_starts_within_its_bound_of_the_base_and_not_at_it(top_k):
    """||y - y0|| <= sum_e |w_e - 1/E| s ||B_e A_e|| ||x||, spectral norms."""
    model, layer, weight = goat_layer(Goat(r=RANK, top_k=top_k))
    state = model.base_model.routing
    state.external = True
    state.start()
    x = torch.randn(50, INPUTS)
    off = (model(x).detach().double() - x.double() @ weight.T).norm(dim=-1)
    gates = state.seen["block", "default"][0].gates.double()
    a, b = layer.smoe_A["default"].double(), layer.smoe_B["default"].double()
    norms = torch.stack(
        [
            torch.linalg.matrix_norm(b[:, e * RANK : e * RANK + RANK] @ a[e * RANK : e * RANK + RANK], 2)
            for e in range(EXPERTS)
        ]
    )
    bound = ((gates - 1 / EXPERTS).abs() * norms).sum(-1) * 64 / RANK * x.double().norm(dim=-1)
    assert bool((off <= bound * (1 + 1e-5)).all()) and float(off.mean()) > 1e-3


def test_goat_leaves_lora_s_start_to_blocks_with_too_few_directions_and_says_which(tiny):
    method = Goat()
    model = method.attach(tiny, {}, 4)
    left = method.facts(model)["usual_start"]
    assert {b.rsplit(".", 1)[-1] for b in left} == {"k_proj", "v_proj"}
    for block, layer in smoe_layers(model).items():
        assert bool(layer.smoe_B["default"].any()) == (block not in left)
    with pytest.raises(ValueError, match="took its start out of the base weights: load the base anew"):
        model.unload()


# --- dmep


def test_the_most_used_experts_are_kept_until_the_budget_and_one_in_every_block():
    use = {"a": [0.1, 0.6, 0.3], "b": [0.02, 0.01, 0.0], "c": [0.5, 0.25, 0.25]}
    shapes = dict.fromkeys(use, (10, 6))
    price = [block_params((10, 6), n, 2) for n in range(4)]
    assert most_used(use, shapes, 2, 3 * price[1]) == {"a": [1], "b": [0], "c": [0]}
    assert most_used(use, shapes, 2, price[2] + 2 * price[1]) == {"a": [1, 2], "b": [0], "c": [0]}
    assert most_used(use, shapes, 2, 2 * price[2] + price[1]) == {"a": [1, 2], "b": [0], "c": [0, 1]}
    assert most_used(use, shapes, 2, 3 * price[3]) == {block: [0, 1, 2] for block in use}


def test_dmep_prunes_once_to_its_budget_those_used_least_and_trains_on_without_balance(tiny, batch):
    method = Dmep(r=2)
    model = method.attach(tiny, {}, 10)
    shapes = block_shapes(skeleton(TINY))
    seen = []

    class Watched(Dmep):
        def after_step(self, model, step):
            super().after_step(model, step)
            kept = {b: tuple((m.smoe_d["default"] == 0).tolist()) for b, m in smoe_layers(model).items()}
            seen.append((kept, model.peft_config["default"].balance_loss, model.expert_use.copy()))

    train(
        model, Watched(r=2), [([batch], 60)] * 10, total_steps=10, learning_rate=1e-2, warmup_fraction=0.0,
        weight_decay=0.0, seed=0,
    )  # fmt: skip
    assert all(all(kept) for kept in seen[1][0].values()) and seen[1][1] == 1e-2
    assert seen[2][0] == seen[-1][0] and seen[-1][1] == 0  # after step 3 of 10, for good
    shares = seen[2][2]
    for block, kept in seen[2][0].items():
        assert any(kept)
        used = [float(s) for s, k in zip(shares[block], kept, strict=True) if k]
        shut = [float(s) for s, k in zip(shares[block], kept, strict=True) if not k]
        assert not shut or min(used) >= max(shut)
        assert sum(used) + sum(shut) == pytest.approx(1)
    facts = method.facts(model)
    whole = sum(block_params(s, 8, 2) for s in shapes.values())
    left = facts["parameters"]["after_pruning"]
    assert 0.97 * whole / 2 < left <= whole / 2 and method.matched_params(model) == round(whole / 2)
    assert left == sum(block_params(shapes[b], n, 2) for b, n in facts["experts_left"].items())


def test_dmep_that_is_not_driven_is_noticed_and_impossible_budgets_are_refused(tiny):
    method = Dmep(r=2)
    with pytest.raises(RuntimeError, match="never driven"):
        method.facts(method.attach(tiny, {}, 10))
    with pytest.raises(ValueError, match="one expert a block takes"):
        Dmep(keep=0.05).check(skeleton(TINY), TASKS, 10)
    with pytest.raises(ValueError, match="1 steps leave none after pruning"):
        Dmep().check(skeleton(TINY), TASKS, 1)
    with pytest.raises(ValueError, match="takes router pruned and a top_k"):
        Dmep(top_k=None)
    with pytest.raises(ValueError, match="ask for --match params"):
        Dmep().matched_experts(56, block_shapes(skeleton(TINY)))


# --- mixlora


def test_mixlora_needs_whole_feed_forward_nets():
    with pytest.raises(
        ValueError, match=r"an expert is a whole feed-forward net, .* of 2 nets there are 4 projections"
    ):
        MixLora(target_modules=("q_proj", "gate_proj", "up_proj")).check(skeleton(TINY), TASKS, 10)
