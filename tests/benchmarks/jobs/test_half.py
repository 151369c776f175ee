"""float16: training and sensitivity are those of float32 within its rounding, and small gradients survive."""

from __future__ import annotations

import pytest
import torch

from benchmarks.jobs.child import attempt
from benchmarks.jobs.train import HALF_SCALE, train
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve

SMALLEST = 2**-24  # above 0 in float16


def run(dtype):
    asked = dict(tasks="sst2,copa", model="tiny", methods="lora-smoe:mean_experts=1", device="cpu", limit=4)
    (spec,) = resolve(Request(**asked, dtype=dtype, train_documents=16))
    record = attempt(spec)
    assert record.error is None
    return record


def test_losses_and_sensitivities_are_those_of_float32_within_rounding():
    half, whole = run("float16"), run("float32")
    assert half.losses == pytest.approx(whole.losses, rel=1e-3)
    assert half.facts["experts"] == whole.facts["experts"]
    for task, by_block in half.facts["sensitivity"].items():
        assert by_block == pytest.approx(whole.facts["sensitivity"][task], rel=2e-2)


class Faint(torch.nn.Module):
    """A model whose float16 part passes a gradient back that is below the smallest number of its type."""

    def __init__(self, dtype):
        super().__init__()
        self.trained = torch.nn.Parameter(torch.ones(1))
        self.base = torch.nn.Parameter(torch.full((1,), SMALLEST * 8, dtype=dtype), requires_grad=False)

    def forward(self, input_ids, **_):
        vocabulary = torch.arange(4, dtype=self.base.dtype) / 64
        faint = (self.trained.to(self.base.dtype) * self.base) * vocabulary
        return type("Output", (), {"logits": faint.expand(*input_ids.shape, 4)})()


def test_a_gradient_that_float16_would_lose_trains_all_the_same(monkeypatch):
    class Plain:
        name = "plain"
        penalty = regularizer = lambda self, model: None
        after_step = lambda self, model, step: None  # noqa: E731

    def moved(scale):
        monkeypatch.setattr("benchmarks.jobs.train.HALF_SCALE", scale)
        model, ids = Faint(torch.float16), torch.tensor([[0, 3, 3]])
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor([[-100, 3, 3]])}
        train(model, Plain(), [([batch], 3)], total_steps=1, learning_rate=0.1, warmup_fraction=0, weight_decay=0,
              seed=0)  # fmt: skip
        return model.trained.item() - 1

    assert moved(1) == 0 != moved(HALF_SCALE)


def test_full_fine_tuning_in_float16_is_refused():
    with pytest.raises(ValueError, match="full steps the model's own weights: float16 is too coarse, use bfloat16"):
        resolve(Request(tasks="sst2", model="tiny", methods="full", device="cpu", dtype="float16"))
