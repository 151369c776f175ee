"""The first step's size: by the book on a model that can be computed by hand, equal where scales are, and harmless."""

from __future__ import annotations

import math
import statistics
from types import SimpleNamespace

import pytest
import torch

from baselines.methods.lora import Lora
from baselines.methods.lora_own import LoraOwn
from baselines.methods.lora_smoe import LoraSMoE
from baselines.methods.molora import MoLora
from baselines.methods.references import Frozen
from benchmarks.jobs import first_step as measure
from benchmarks.jobs.first_step import first_step
from benchmarks.models.load import TINY, load
from benchmarks.plan.match import target
from smoe import block_shapes

RATE = 5e-4


@pytest.fixture
def probe():
    generator = torch.Generator().manual_seed(3)

    def batch():
        ids = torch.randint(3, 200, (4, 12), generator=generator)
        labels = ids.clone()
        labels[:, :8] = -100
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}

    return {task: [batch(), batch()] for task in ("a", "b")}


def attached(method, probe, dtype="float32", seed=0):
    model, _ = load(TINY, dtype, "cpu")
    torch.manual_seed(seed)
    return method.attach(model, probe, 10)


def mean_step(method, probe, seeds=4):
    """A model as small as this one has an initial draw that is felt."""
    return statistics.fmean(first_step(attached(method, probe, seed=s), probe, RATE, 0.0) for s in range(seeds))


class Table(torch.nn.Module):
    """Logits are a row of a table for each token: one AdamW step moves each touched weight by the rate."""

    def __init__(self):
        super().__init__()
        self.rows = torch.nn.Parameter(torch.zeros(5, 3))

    def forward(self, input_ids, attention_mask=None):
        return SimpleNamespace(logits=self.rows[input_ids])


def test_a_step_by_hand():
    """Every logit of a token that is read has a gradient, and AdamW's first step is the rate, whatever the gradient."""
    ids = torch.tensor([[0, 1, 2]])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor([[-100, 1, 2]])}
    assert first_step(Table(), {"task": [batch]}, 0.01, 0.0) == pytest.approx(0.01, rel=1e-4)


def test_methods_of_equal_scale_take_equally_large_first_steps_and_those_of_the_published_scale_smaller_ones(probe):
    sizes = {m.name: mean_step(m, probe) for m in (Lora(), LoraOwn(), MoLora(), LoraSMoE(mean_experts=2.0))}
    assert max(sizes.values()) < 1.2 * min(sizes.values())
    published = mean_step(MoLora(scale="published"), probe)
    assert published == pytest.approx(sizes["molora"] / 4, rel=0.1)


@pytest.mark.parametrize("method", [Lora(), LoraOwn(), MoLora()])
def test_another_size_keeps_the_size_of_the_step(method, probe):
    shapes = block_shapes(load(TINY, "float32", "cpu")[0], "all-linear")
    whole = target("params", shapes)
    halved, same = (method.matched(params, shapes) for params in (whole // 2, whole))
    assert halved.alpha == same.alpha and (halved.r, getattr(halved, "num_experts", 1)) != (method.r, 4)
    first, second = (mean_step(m, probe) for m in (halved, same))
    assert first == pytest.approx(second, rel=0.2)


def test_it_leaves_weights_gradients_mode_and_random_state_as_they_were(probe):
    model = attached(MoLora(dropout=0.1), probe, "bfloat16").train()
    before = {name: (p.detach().clone(), p.dtype) for name, p in model.named_parameters()}
    torch.manual_seed(7)
    state = torch.get_rng_state()
    size = first_step(model, probe, RATE, 0.1)
    assert size is not None and size > 0 and math.isfinite(size)
    assert torch.equal(torch.get_rng_state(), state) and all(m.training for m in model.modules())
    for name, p in model.named_parameters():
        assert p.dtype == before[name][1] and torch.equal(p, before[name][0]) and p.grad is None


def test_a_rounded_base_does_not_drown_the_step(probe):
    """A bfloat16 model's own logits are rounded by far more than a step moves them."""
    exact, rounded = (first_step(attached(Lora(), probe, d), probe, RATE, 0.0) for d in ("float32", "bfloat16"))
    assert rounded == pytest.approx(exact, rel=0.1)


def test_what_trains_nothing_has_no_first_step(probe):
    assert first_step(attached(Frozen(), probe), probe, RATE, 0.0) is None


@pytest.mark.parametrize("free", [0, None, 10**12])
def test_it_is_left_out_where_the_model_in_float32_would_not_fit(probe, monkeypatch, free):
    monkeypatch.setattr(measure, "free_bytes", lambda device: free)
    assert (first_step(attached(Lora(), probe, "bfloat16"), probe, RATE, 0.0) is None) == (free == 0)


def test_a_step_that_is_not_finite_and_a_full_device_fail_no_job(probe, monkeypatch):
    model = attached(Lora(), probe)
    assert first_step(model, probe, 1e30, 0.0) is None
    before = [p.detach().clone() for p in model.parameters()]

    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(measure, "mean_loss", full)
    assert first_step(model, probe, RATE, 0.0) is None
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
