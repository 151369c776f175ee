"""`--profile paper` plans the main comparison and every ablation, each job once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.models import load as models
from benchmarks.plan import profiles
from benchmarks.plan.parse import parse_methods
from benchmarks.plan.profiles import PROFILES
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve


def test_probes_that_the_training_documents_cannot_fill_are_left_out():
    def probes(documents):
        return [c["probe_documents"] for c in profiles.studies(8, 30, documents) if c["methods"] == "smoe-released"]

    assert probes(None) == [30, 60, 120, 240] and probes(100) == [30, 60] and probes(20) == []


@pytest.mark.parametrize("name", ["Qwen2.5-3B", "Qwen2.5-7B"])
def test_every_budget_is_one_that_the_paper_s_models_can_have(name):
    model = models.skeleton(f"random:{name}")
    changes = profiles.studies(8, model.config.num_hidden_layers, None)
    for methods in [c["methods"] for c in changes if "mean_experts" in c["methods"]]:
        for method in parse_methods(methods):
            method.check(model, [f"task{i}" for i in range(8)], 100)


def test_the_plan_holds_every_study_and_no_job_twice():
    specs = resolve(Request(profile="paper", model="tiny", device="cpu", seeds="0", train_documents=320, limit=1))
    assert len({s.key for s in specs}) == len(specs)
    own = [s for s in specs if s.method == "lora-smoe"]
    assert sorted({s.probe_documents for s in own}) == [1, 2, 4, 8]
    assert sorted(s.hyperparameters["mean_experts"] for s in own if s.probe_documents == 8) == pytest.approx(
        [3.2, 4.0, 4.8, 5.6, 6.4],
        abs=1 / 28,  # half an expert over the 14 blocks
    )
    assert {s.hyperparameters["shape"] for s in specs if s.method == "mola"} == set(profiles.SHAPES)
    assert {"smoe-type", "smoe-global", "smoe-attention", "smoe-mlp"} <= {s.method for s in specs}


def test_the_profiles_own_models_bring_its_source_and_protocol_and_another_model_does_not(monkeypatch):
    monkeypatch.setitem(PROFILES, "small", replace(PROFILES["small"], models=("tiny",), protocol="generative"))

    def asked(**options):
        (spec,) = resolve(Request(methods="lora", device="cpu", **options))
        return spec.source, spec.protocol

    assert asked() == ("embedded", "generative") and asked(protocol="loglik") == ("embedded", "loglik")
    assert asked(model="tiny") == ("embedded", "loglik")


def test_the_profile_brings_its_models_and_its_methods():
    assert PROFILES["paper"].models == ("Qwen/Qwen2.5-3B", "Qwen/Qwen2.5-7B")
    assert (PROFILES["paper"].source, PROFILES["paper"].protocol) == ("hub", "generative")  # as the paper evaluates
    with pytest.raises(ValueError, match="profile 'paper' chooses the methods itself"):
        resolve(Request(profile="paper", model="tiny", methods="lora", device="cpu"))
