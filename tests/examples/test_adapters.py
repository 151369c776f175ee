"""The examples on adapters trained apart: "cat" is their sum; a mixture of them is each where its router is certain."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch

from smoe import smoe_layers

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
STEPS = 5


@pytest.fixture
def apart(monkeypatch):
    """(module, base, tasks, the model with an adapter for each task)."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import merge_adapters

    yield merge_adapters, *made(merge_adapters)
    for name in ("merge_adapters", "route_between_adapters", "finetune_with_trainer"):
        sys.modules.pop(name, None)


def made(module):
    base, encode = module.load("tiny")
    tasks = {"sums": module.rows(encode, module.SUMS[:8]), "spelling": module.rows(encode, module.SPELLING)}
    return base, tasks, module.trained_apart(copy.deepcopy(base), tasks, STEPS)


def logits(model, tasks):
    with torch.no_grad():
        return torch.cat([model(**data).logits.flatten() for data in tasks.values()])


def test_each_adapter_learns_its_own_task_and_cat_is_their_sum(apart):
    module, base, tasks, model = apart
    before = module.losses(base, tasks)
    for name in tasks:
        model.set_adapter(name)
        assert module.losses(model, tasks)[name] < before[name] - 0.01
    model.add_weighted_adapter(list(tasks), [1.0, 1.0], "cat", combination_type="cat")
    blocks = [m for m in model.modules() if hasattr(m, "lora_A") and "cat" in m.lora_A]
    assert len(blocks) == 8
    for block in blocks:
        summed = sum(block.get_delta_weight(name) for name in tasks)
        torch.testing.assert_close(block.get_delta_weight("cat"), summed, rtol=1e-5, atol=1e-6)


def test_a_certain_router_is_one_adapter_and_training_it_moves_nothing_else(apart):
    module, base, tasks, adapted = apart
    import route_between_adapters

    mixed = route_between_adapters.mixture_of(copy.deepcopy(base), adapted, list(tasks))
    rows = 2 * module.CONFIG.r
    before = {block: layer.smoe_A["default"].clone() for block, layer in smoe_layers(mixed).items()}
    module.train(mixed, tasks["sums"], STEPS)
    for block, layer in smoe_layers(mixed).items():
        assert torch.equal(layer.smoe_A["default"][:rows], before[block][:rows])
        assert not torch.equal(layer.smoe_A["default"][rows:], before[block][rows:])
    for number, name in enumerate(tasks):
        adapted.set_adapter(name)
        for layer in smoe_layers(mixed).values():
            layer.routing.change = lambda gates, number=number: torch.eye(2)[number].expand_as(gates)
        torch.testing.assert_close(logits(mixed, tasks), logits(adapted, tasks), rtol=1e-4, atol=1e-5)
