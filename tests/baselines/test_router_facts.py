"""What the routers do on each task goes into the record."""

from __future__ import annotations

import json

import torch

from baselines.methods.molora import MoLora
from benchmarks.data import batches
from benchmarks.data.examples import Example
from benchmarks.models.load import load as load_model


def test_a_mixture_reports_load_entropy_and_dead_experts_of_every_router_and_task() -> None:
    torch.manual_seed(0)
    model, tokenizer = load_model("tiny", "float32", "cpu")
    made = {t: [Example(t, tuple(range(i, i + n)), 2, False) for i, n in ((1, 9), (30, 5))] for t in ("a", "b")}
    probe = batches.probe(made, 2, 2, tokenizer.pad_token_id)
    method = MoLora(num_experts=3)
    attached = method.attach(model, probe, 4)
    seen = method.router_diagnostics(attached, probe)["router"]
    assert set(seen) == {"a", "b"}
    assert set(seen["a"]) == set(method.facts(attached)["experts"])
    for block in seen["a"].values():
        assert len(block["load"]) == 3 and abs(sum(block["load"]) - 1) < 1e-3
        assert 0 <= block["entropy"] <= 1 and 0 <= block["dead"] <= 3
    json.dumps(seen)
