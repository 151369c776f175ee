"""What single contestants promise beyond the contract, and which settings they refuse."""

from __future__ import annotations

import dataclasses
import pickle
import typing

import pytest
import torch
from accelerate.utils import set_seed

from baselines.importance.mola import SHAPES
from baselines.methods.adalora import AdaLora
from baselines.methods.capacity import EvaExperts, Mola
from baselines.methods.lora import Lora
from baselines.methods.lora_smoe import LoraSMoE
from baselines.methods.molora import MoLora
from benchmarks.jobs.train import train
from benchmarks.models.load import TINY, skeleton
from benchmarks.models.load import load as load_model
from smoe import find_blocks, smoe_layers

BLOCKS = 14  # of the tiny model: seven projections in two layers
TASKS = tuple(f"task{i}" for i in range(8))


def fit(method, model, batch, steps):
    return train(
        model, method, [([batch], 60)] * steps, total_steps=steps, learning_rate=1e-3, warmup_fraction=0.1,
        weight_decay=0.0, seed=0,
    )  # fmt: skip


def test_lora_smoe_and_molora_have_equally_many_experts_and_differ_in_the_allocation(tiny, probe):
    other = load_model(TINY, "float32", "cpu")[0]
    smoe, uniform = LoraSMoE(r=2), MoLora(r=2)
    ours = smoe.facts(smoe.attach(tiny, probe, 4))["experts"]
    theirs = uniform.facts(uniform.attach(other, probe, 4))["experts"]
    assert sum(ours.values()) == sum(theirs.values()) == 4 * BLOCKS
    assert ours.keys() == theirs.keys() and ours != theirs
    assert set(theirs.values()) == {4}


def test_lora_smoe_reports_the_sensitivity_of_every_task_and_block(tiny, probe):
    method = LoraSMoE(r=2)
    facts = method.facts(method.attach(tiny, probe, 4))
    assert set(facts["sensitivity"]) == set(TASKS)
    assert all(set(scores) == set(facts["experts"]) for scores in facts["sensitivity"].values())
    assert all(score > 0 for scores in facts["sensitivity"].values() for score in scores.values())
    assert facts["probe_samples"] == dict.fromkeys(TASKS, 2)


def test_lora_smoe_differs_from_molora_in_no_default_but_the_allocation():
    ours, theirs = ({f.name: f.default for f in dataclasses.fields(cls)} for cls in (LoraSMoE, MoLora))
    shared = ours.keys() & theirs.keys()
    assert {n: ours[n] for n in shared} == {n: theirs[n] for n in shared}
    assert theirs.keys() - shared == {"num_experts"}


def test_the_router_balance_loss_reaches_the_training_loss(tiny, batch, probe):
    method = MoLora(r=2, balance_loss=0.5)
    model = method.attach(tiny, probe, 4).train()
    model(**{k: v for k, v in batch.items() if k != "labels"})
    penalty = method.penalty(model)
    assert penalty is not None and penalty.requires_grad and penalty.item() >= 0.5 * 0.99
    assert MoLora(r=2).penalty(model) is None


def test_a_mixture_with_one_expert_everywhere_trains_as_lora_does(tiny, batch, probe):
    """The harness adds nothing of its own: PEFT's LoRA from the same draws gives the same losses."""
    other = load_model(TINY, "float32", "cpu")[0]
    set_seed(0)
    mixture = MoLora(r=4, alpha=8, num_experts=1).attach(tiny, probe, 6)
    lora = Lora(r=4, alpha=8).attach(other, probe, 6)
    with torch.no_grad():
        for block, layer in smoe_layers(mixture).items():
            lora.get_submodule(f"base_model.model.{block}").lora_A["default"].weight.copy_(layer.smoe_A["default"])
    ours, theirs = fit(MoLora(r=4, num_experts=1), mixture, batch, 6)[0], fit(Lora(), lora, batch, 6)[0]
    assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("steps", [3, 4, 10, 41])
def test_adalora_ends_at_its_target_rank_whatever_the_steps(tiny, batch, steps):
    method = AdaLora(init_r=6, target_r=4)
    model = method.attach(tiny, {}, steps)
    fit(method, model, batch, steps)
    facts = method.facts(model)
    assert sum(facts["ranks"].values()) == 4 * BLOCKS and len(facts["ranks"]) == BLOCKS
    in_use = 0
    for block, rank in facts["ranks"].items():
        module = model.get_submodule(f"base_model.model.{block}")
        assert int((module.lora_E["default"] != 0).sum()) <= rank
        in_use += rank * (module.in_features + module.out_features + 1)
    assert facts["parameters"]["after_pruning"] == in_use


def test_adalora_that_is_not_driven_is_noticed(tiny):
    method = AdaLora(init_r=6, target_r=4)
    with pytest.raises(RuntimeError, match="never driven"):
        method.facts(method.attach(tiny, {}, 10))


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_adalora_refuses_steps_too_few_to_prune_in(steps):
    with pytest.raises(ValueError, match=f"{steps} steps leave none for pruning"):
        AdaLora().check(skeleton(TINY), TASKS, steps)


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (Lora, {"r": 0}, "r 0 must be above 0"),
        (Lora, {"r": -4}, "r -4 must be above 0"),
        (Lora, {"dropout": 1.0}, "dropout 1.0 must be below 1"),
        (AdaLora, {"target_r": 64}, "target_r 64 must be below init_r 48"),
        (AdaLora, {"target_r": 0}, "target_r 0 must be above 0"),
        (MoLora, {"num_experts": 0}, "num_experts 0 must be above 0"),
        (MoLora, {"r": 0}, "r 0 must be above 0"),
        (MoLora, {"top_k": 0}, "top_k 0 must be above 0"),
        (Lora, {"rr": 4}, r"unknown hyperparameter of lora 'rr'; did you mean r\? known: alpha, dropout, r"),
        (Lora, {"r": "many"}, "lora: r 'many': expected integer"),
        (Lora, {"dropout": float("nan")}, "lora: dropout nan: expected finite number"),
        (MoLora, {"alpha": 3, "scale": "published"}, "molora: alpha 3 and scale published say two things"),
        (Mola, {"shape": "diamnd"}, r"unknown shape of mola 'diamnd'; did you mean diamond\? known: .*triangle"),
        (EvaExperts, {"mean_experts": 9}, "eva-experts: mean_experts 9.0 is above max_experts 8"),
        (LoraSMoE, {"balance_loss": -1.0}, "balance_loss -1.0 must be at least 0"),
    ],
)
def test_a_setting_out_of_range_is_refused_at_once_by_name_in_one_line(cls, settings, message):
    with pytest.raises(ValueError, match=message) as refused:
        cls(**settings)
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(cls(), **settings)


def test_a_value_without_a_name_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match="lora: 8 has no name; fields are set by name: r, alpha, dropout"):
        Lora(8)


def test_methods_are_values_equal_hashed_and_pickled_by_their_hyperparameters():
    method = MoLora(r=4, target_modules=["q_proj"])  # a list, as JSON gives it back
    assert method == MoLora(r=4, target_modules=("q_proj",)) and len({method, MoLora(r=4), MoLora(r=4)}) == 2
    assert pickle.loads(pickle.dumps(method)) == method


def test_the_shapes_that_can_be_asked_for_are_those_with_numbers():
    assert typing.get_args(typing.get_type_hints(Mola)["shape"]) == tuple(SHAPES)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mean_experts": 99.0}, "nearest possible: total 112, mean 8"),
        ({"mean_experts": 4.01}, "nearest possible: 4.000000 .56 experts., 4.071429 .57 experts."),
        ({"mean_experts": None}, "exactly one of mean_experts, total_experts, trainable_params"),
        ({"total_experts": 56}, "exactly one of"),
        ({"mean_experts": -1.0}, "mean_experts -1.0 must be above 0"),
        ({"mean_experts": None, "total_experts": 113}, "nearest possible: total 112"),
        ({"mean_experts": None, "trainable_params": 10}, "10 trainable parameters are impossible"),
        ({"rule": "lottery"}, "unknown rule of lora-smoe 'lottery'; .*known: greedy, layers, proportional, votes"),
        (
            {"grouping": "colour"},
            "unknown grouping of lora-smoe 'colour'; known: attention, attention-mlp, global",
        ),
        ({"mode": "guess"}, "unknown mode of lora-smoe 'guess'; .*known: paper, released"),
        ({"target_modules": ("w_pack",)}, "'w_pack' matches no module"),
    ],
)
def test_lora_smoe_refuses_what_the_model_and_the_tasks_cannot_give_before_any_pass(settings, message):
    with pytest.raises(ValueError, match=message):
        LoraSMoE(**settings).check(skeleton(TINY), TASKS, 4)


def test_lora_smoe_accepts_every_budget_up_to_one_expert_a_task():
    model = skeleton(TINY)
    assert len(find_blocks(model)) == BLOCKS
    for total in (1, BLOCKS * len(TASKS)):
        LoraSMoE(mean_experts=None, total_experts=total).check(model, TASKS, 4)


def test_adalora_is_held_to_orthogonal_vectors_as_peft_computes_it_matrix_by_matrix(tiny, probe):
    method = AdaLora(orthogonality=0.3)
    model = method.attach(tiny, probe, 40)
    ours = method.regularizer(model)
    terms = []
    for name, p in model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            gram = p @ p.T if "lora_A" in name else p.T @ p
            terms.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram))))
    oracle = 0.3 * torch.stack(terms).mean()
    weights = [p for p in model.parameters() if p.requires_grad]
    gradients = [torch.autograd.grad(value, weights, allow_unused=True) for value in (ours, oracle)]
    assert ours.item() == pytest.approx(oracle.item())
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None) and (one is None or torch.allclose(one, other, atol=1e-6))
