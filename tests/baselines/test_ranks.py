"""Ranks as currency: identities with LoRA, budgets, and the closed forms of the published methods."""

from __future__ import annotations

import math

import pytest
import torch
from accelerate.utils import set_seed

from baselines.methods.gora import first_b, joint_gradients, published_ranks
from benchmarks.jobs.train import answer_loss, answer_width, train
from benchmarks.models.load import TINY
from benchmarks.models.load import load as load_model
from benchmarks.plan.match import shapes_of
from benchmarks.plan.parse import parse_methods
from smoe import block_shapes

BLOCKS = 14


def fresh():
    return load_model(TINY, "float32", "cpu")[0]


def built(asked):
    return parse_methods(asked)[0]


def attached(asked, probe, seed=0):
    set_seed(seed)
    return built(asked).attach(fresh(), probe, 4)


def fitted(asked, probe, batch):
    model = attached(asked, probe)
    losses, _ = train(
        model, built(asked), [([batch], 60)] * 4, total_steps=4, learning_rate=1e-2, warmup_fraction=0.0,
        weight_decay=0.0, seed=0,
    )  # fmt: skip
    with torch.no_grad():
        return losses, model(input_ids=batch["input_ids"]).logits


def layers(model):
    return {n.split("base_model.model.", 1)[-1]: m for n, m in model.named_modules() if hasattr(m, "lora_A")}


@pytest.mark.parametrize("scale", ["constant", "equal"])
def test_constant_importance_is_lora_bit_for_bit(scale, probe, batch):
    ours = fitted(f"ranks:importance=uniform:r=8:scale={scale}", probe, batch)
    theirs = fitted("lora:r=8:alpha=64", probe, batch)
    assert ours[0] == theirs[0] and torch.equal(ours[1], theirs[1])


def test_constant_importance_with_the_scale_of_rslora_is_rslora(probe, batch):
    ours = fitted("ranks:importance=uniform:r=8:scale=sqrt:alpha=16", probe, batch)
    theirs = fitted("rslora:r=8:alpha=16", probe, batch)
    assert ours[0] == theirs[0] and torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize("asked", ["sensitive-ranks", "fim-lora", "random-ranks", "inverse-ranks", "ranks:rule=greedy"])
def test_ranks_meet_their_mean_exactly_within_their_bounds(asked, probe):
    method = built(f"{asked}:r=8")
    ranks, _ = method.allocate(fresh(), probe)
    assert sum(ranks.values()) == 8 * BLOCKS and len(set(ranks.values())) > 1
    assert method.bounds[0] <= min(ranks.values()) and max(ranks.values()) <= method.largest


def test_ranks_meet_a_budget_in_parameters_to_within_one_rank(probe):
    shapes = block_shapes(fresh())
    target = 9 * sum(sum(shape) for shape in shapes.values()) + 17
    for asked in ("sensitive-ranks", "fim-lora", "inverse-ranks", "gora:init=zero"):
        ranks, _ = built(asked).matched(target, shapes_of(fresh())).allocate(fresh(), probe)
        spent = sum(rank * sum(shapes[b]) for b, rank in ranks.items())
        assert target - max(sum(s) for s in shapes.values()) < spent <= target, asked


@pytest.mark.parametrize(
    ("scale", "of"),
    [
        ("constant", lambda rank: 64 / 8),
        ("equal", lambda rank: 64 / rank),
        ("sqrt", lambda rank: 64 / math.sqrt(rank)),
    ],
)
def test_every_block_has_the_scale_that_was_asked_for(scale, of, probe):
    model = attached(f"ranks:r=8:scale={scale}", probe)
    ranks = model.allocation_facts["ranks"]
    for block, layer in layers(model).items():
        assert layer.scaling["default"] == pytest.approx(of(ranks[block]))
        assert len(layer.lora_A["default"].weight) == ranks[block]


def test_a_block_of_rank_zero_has_no_adapter_and_the_rest_the_votes_of_experts(probe):
    ranks, _ = built("ranks:rule=votes:r=32").allocate(fresh(), probe)
    experts, _ = built("lora-smoe").allocate(fresh(), probe)
    assert ranks == {block: 8 * n for block, n in experts.items()}
    model = attached("ranks:rule=votes:r=32", probe)
    assert set(layers(model)) == {block for block, rank in ranks.items() if rank} != set(ranks)
    assert built("ranks:rule=votes").facts(model)["ranks"] == ranks


def test_votes_refuse_ranks_that_they_cannot_share_naming_the_nearest(probe):
    with pytest.raises(ValueError, match=r"ranks: 42 ranks are no whole number of votes of 8; .*: 40 or 48"):
        built("ranks:rule=votes:r=3").check(fresh(), list(probe), 4)
    with pytest.raises(ValueError, match="min_rank 99 is above max_rank 32"):
        built("ranks:r=8:min_rank=99")
    with pytest.raises(ValueError, match="total_ranks and trainable_params are two budgets"):
        built("ranks:total_ranks=20:trainable_params=2000")


def test_random_ranks_keep_the_histogram_and_inverse_ranks_reverse_the_ranking(probe):
    own, _ = built("sensitive-ranks:r=8:grouping=global").allocate(fresh(), probe)
    dealt = [built(f"random-ranks:r=8:grouping=global:allocation_seed={s}").allocate(fresh(), probe)[0] for s in (1, 2)]
    assert all(sorted(d.values()) == sorted(own.values()) for d in dealt) and dealt[0] != dealt[1] != own
    inverse, _ = built("inverse-ranks:r=8:grouping=global").allocate(fresh(), probe)
    blocks = list(own)
    for a in blocks:
        for b in blocks:
            assert not (own[a] > own[b] + 1 and inverse[a] > inverse[b] + 1), (a, b)


def test_saturated_blocks_of_fim_lora_give_what_they_cannot_take_to_the_others(probe):
    method = built("fim-lora:r=8")
    scores = method.how.measure(fresh(), {b: fresh().get_submodule(b) for b in block_shapes(fresh())}, probe, 4, None)
    ranks, _ = method.allocate(fresh(), probe)
    shares = {b: sum(s[b] / sum(s.values()) for s in scores.scores.values()) / len(probe) for b in ranks}
    saturated = {b for b, share in shares.items() if share * 8 * BLOCKS > 16}
    assert saturated and all(ranks[b] == 16 for b in saturated)
    order = sorted(ranks, key=shares.__getitem__)
    assert [ranks[b] for b in order] == sorted(ranks.values())


# --- EVA


def test_eva_starts_at_the_base_with_orthonormal_rows_and_without_redistribution_at_rho_one(probe):
    base, model = fresh(), attached("eva-lora:r=4", probe)
    ids = probe["task0"][0]["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, base(input_ids=ids).logits, rtol=0, atol=1e-6)
    for layer in layers(model).values():
        a = layer.lora_A["default"].weight
        torch.testing.assert_close(a @ a.T, torch.eye(len(a)), rtol=0, atol=1e-4)
    ranks = model.allocation_facts["ranks"]
    assert sum(ranks.values()) == 4 * BLOCKS and max(ranks.values()) <= 8 and len(set(ranks.values())) > 1
    assert set(built("eva-lora:r=4:rho=1").allocate(fresh(), probe)[0].values()) == {4}


# --- GoRA


def test_gora_starts_one_projected_gradient_step_from_the_base():
    """CONTESTANTS 3.2: dW_0 = -gora_lr sqrt(I / r) G A^+ A."""
    torch.manual_seed(0)
    a, gradient = torch.randn(4, 12, dtype=torch.float32), torch.randn(9, 12)
    scaling = 16 / math.sqrt(4)
    start = scaling * first_b(a, gradient, scaling, 0.05) @ a
    projection = a.T @ torch.linalg.inv(a @ a.T) @ a
    torch.testing.assert_close(start, -0.05 * math.sqrt(12 / 4) * gradient @ projection, rtol=1e-4, atol=1e-5)
    square = torch.randn(12, 12)
    whole = scaling * first_b(square, gradient, scaling, 0.05) @ square
    torch.testing.assert_close(whole, -0.05 * gradient, rtol=1e-3, atol=1e-4)  # A^+ A = 1


def test_the_attached_gora_is_that_step_and_lowers_the_loss_of_the_samples_where_the_other_sign_raises_it(probe):
    def loss(model):
        losses = [answer_loss(model, b, answer_width(b)) for of_task in probe.values() for b in of_task]
        return float(torch.stack(losses).mean())

    model = attached("gora:gora_lr=0.001", probe)
    gradients = joint_gradients(fresh(), tuple(block_shapes(fresh())), probe)
    with torch.no_grad():
        base = loss(fresh())
        for block, layer in layers(model).items():
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            rank, inputs = a.shape
            expected = -0.001 * math.sqrt(inputs / rank) * gradients[block] @ torch.linalg.pinv(a) @ a
            torch.testing.assert_close(layer.scaling["default"] * b @ a, expected, rtol=1e-3, atol=1e-7)
        assert loss(model) < base
        for layer in layers(model).values():
            layer.lora_B["default"].weight.neg_()
        assert loss(model) > base


def test_gora_gives_rank_r_everywhere_where_shares_are_those_of_the_parameters():
    shapes = {"a": (64, 64), "b": (64, 32), "c": (128, 64)}
    means = {block: float(sum(shape)) for block, shape in shapes.items()}
    assert published_ranks(means, shapes, 8, 4, 32) == {"a": 8, "b": 8, "c": 8}
    assert published_ranks({"a": 1.0, "b": 0.0, "c": 0.0}, shapes, 8, 4, 32) == {"a": 26, "b": 4, "c": 4}
    assert published_ranks({"a": 0.0, "b": 1.0, "c": 0.0}, shapes, 8, 4, 32) == {"a": 4, "b": 32, "c": 4}


def test_gora_without_its_start_begins_at_the_base_with_the_same_ranks(probe):
    ranks = [attached(f"gora:init={init}", probe).allocation_facts["ranks"] for init in ("zero", "gradient")]
    assert ranks[0] == ranks[1]
    assert built("gora:init=zero").starts_at_base and not built("gora").starts_at_base
