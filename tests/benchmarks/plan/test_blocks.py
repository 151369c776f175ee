"""Which blocks are trained: the same for every method in every family, or a refusal before any job."""

from __future__ import annotations

import copy
import functools
import warnings
from dataclasses import replace

import pytest
import torch
from families import DENSE, FAMILIES, MIXTURES, VOCABULARY, family
from synthetic_records import make_run
from torch import nn

from benchmarks.data.batches import collate
from benchmarks.data.examples import Example
from benchmarks.jobs.train import answer_loss, answer_width
from benchmarks.plan import blocks
from benchmarks.plan.parse import MAIN, parse_methods
from reports.analysis.groups import MixedError, make_groups
from smoe import find_blocks, left_out

METHODS = (
    "lora:r=2", "adalora:init_r=3:target_r=2", "molora:r=2:num_experts=2", "lora-smoe:r=2:mean_experts=1", "dora:r=2",
    "rslora:r=2", "pissa:r=2:niter=0", "hydralora:r=2:num_experts=2", "lora-own:r=2", "frozen", "full",
)  # fmt: skip
RENAMED = ("qwen3_moe", "deepseek_v3")
made = functools.cache(family)


def probe():
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 250, (4, 12), generator=rng).tolist()
    examples = [Example("t", tuple(row[: 6 + i]), 2, False) for i, row in enumerate(ids)]
    return {task: [collate(examples[i : i + 2], 258) for i in (0, 2)] for task in ("t", "u")}


def attached(name, method, targets=None):
    """The model with the method attached as a job does it, and the method with its blocks."""
    warnings.simplefilter("ignore")
    model = copy.deepcopy(made(name)).requires_grad_(False)
    names = blocks.chosen(model, method, targets)
    method = blocks.with_blocks(method, names)
    method.check(model, ("t", "u"), 20)
    model = method.attach(model, probe(), 20)
    blocks.check_trained(method, model, names)
    return model, names


@pytest.mark.parametrize("text", METHODS)
@pytest.mark.parametrize("name", [n for n in DENSE if n in FAMILIES])
def test_every_method_trains_the_same_blocks_of_a_dense_family_and_takes_a_step(name, text):
    (method,) = parse_methods(text)
    model, names = attached(name, method)
    if hasattr(method, blocks.FIELD):
        assert names == tuple(find_blocks(made(name))) and not left_out(made(name), names)
    if method.trains:
        batch = probe()["t"][1]
        answer_loss(model, batch, answer_width(batch)).backward()
        assert any(p.grad is not None and p.grad.any() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("text", METHODS[:5])
@pytest.mark.parametrize("name", [n for n in MIXTURES if n in FAMILIES])
def test_a_mixture_of_experts_is_refused_with_its_fused_weights_unless_one_says_what_is_trained(name, text):
    (method,) = parse_methods(text)
    with pytest.raises(ValueError, match=r"leave out .*experts\.(gate_up|down)_proj.*--target-modules all-linear"):
        blocks.chosen(made(name), method, None)
    if name in RENAMED and method.name in ("lora", "dora"):  # PEFT reads a dense layer's names as the experts'
        with pytest.raises(ValueError, match=r"PEFT takes .*_proj.* for .*experts.*--target-modules .*o_proj"):
            attached(name, method, blocks.ALL_LINEAR)
    else:
        _, names = attached(name, method, blocks.ALL_LINEAR)
        assert names and not any(x in block for block in names for x in ("router", "shared_expert_gate", "lm_head"))
    _, attention = attached(name, method, ("o_proj",))
    assert len(attention) == 2


def test_only_the_language_model_of_a_model_with_vision_is_trained():
    names = find_blocks(made("gemma3 with vision"))
    assert len(names) == 14 and all(name.startswith("model.language_model.layers.") for name in names)
    named = find_blocks(made("gemma3 with vision"), ("q_proj",))
    assert len(named) == 2 and set(named) <= set(names)


@pytest.mark.parametrize("name", DENSE)
def test_the_skeleton_of_the_plan_has_the_blocks_of_the_model(name):
    with torch.device("meta"):
        skeleton = family(name)
    assert list(find_blocks(skeleton)) == list(find_blocks(made(name)))


class Router(nn.Linear):
    def forward(self, x):
        return super().forward(x).softmax(-1)


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.router, self.up, self.score = Router(4, 2), nn.Linear(4, 6), nn.Linear(6, 1)
        self.conv = nn.Conv1d(2, 2, 3)


def test_routers_outputs_of_width_one_and_convolutions_are_no_blocks_and_no_experts():
    assert list(find_blocks(Odd(), "all-linear")) == ["up"] and left_out(Odd(), ["up"]) == ()
    with pytest.raises(ValueError, match="router is a Router, not a linear layer"):
        find_blocks(Odd(), ("router",))


def test_targets_of_a_command_line():
    assert blocks.parse_targets(None) is None and blocks.parse_targets("all-linear") == "all-linear"
    assert blocks.parse_targets("q_proj, v_proj") == ("q_proj", "v_proj")
    for text in ("", "q_proj,", "q_proj,all-linear"):
        with pytest.raises(ValueError, match="expected names of blocks like q_proj,v_proj, or all-linear"):
            blocks.parse_targets(text)


def test_what_is_chosen_twice_or_is_not_there_is_refused_with_the_way_out():
    (own,) = parse_methods("lora:target_modules=q_proj")
    assert len(blocks.chosen(made("llama"), own, None)) == 2
    with pytest.raises(ValueError, match="lora:target_modules=q_proj and --target-modules both choose"):
        blocks.chosen(made("llama"), own, ("v_proj",))
    with pytest.raises(ValueError, match=r"lora: target 'c_attn' matches no module; linear layers of this model: down"):
        blocks.chosen(made("llama"), parse_methods("lora")[0], ("c_attn",))
    assert all(blocks.chosen(made("llama"), m, None) is None for m in parse_methods("frozen,full"))
    assert set(MAIN) <= {m.name for m in parse_methods(",".join(METHODS))} and VOCABULARY > 258


def test_a_method_that_trains_beside_its_blocks_or_leaves_one_out_is_found_out():
    (method,) = parse_methods("lora:r=2")
    model, names = attached("llama", method)
    with pytest.raises(ValueError, match=r"lora trains base_model.*which is none of its 13 blocks"):
        blocks.check_trained(method, model, names[1:])
    with pytest.raises(ValueError, match=r"lora does not train another\.block, which the plan gave it"):
        blocks.check_trained(method, model, (*names, "another.block"))


def test_rows_that_trained_different_blocks_are_never_in_one_table():
    three, two = ("layers.0.q_proj", "layers.0.k_proj", "layers.0.o_proj"), ("layers.0.q_proj", "layers.0.o_proj")
    records = make_run(("lora", "molora", "frozen"))
    same = [replace(r, trained_blocks=three) for r in records[:2]]
    assert len(make_groups([*same, records[2]])) == 1
    with pytest.raises(
        MixedError, match=r"trained_blocks .*2 blocks .*: o_proj, q_proj.*3 blocks .*: k_proj, o_proj, q"
    ):
        make_groups([same[0], replace(records[1], trained_blocks=two)])
