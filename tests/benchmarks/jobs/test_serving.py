"""What serving costs: the same answers by every form, the router kept, and records of the suite at toy size."""

from __future__ import annotations

import pytest
import torch

from baselines.methods.lora import Lora
from baselines.methods.molora import MoLora
from benchmarks.jobs import serving
from benchmarks.jobs.child import attempt
from benchmarks.models.load import TINY, count, load, twin
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from results.spec import SERVING

RANDOM = "random:llama:width=64:layers=2"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(serving, "BATCHES", (1, 2))
    monkeypatch.setattr(serving, "SIZES", {"cpu": (8, 4)})


def attached(method):
    """(the base, the same with an adapter that is not 0)."""
    model, _ = load(TINY, "float32", "cpu")
    base = twin(model)
    with_adapter = method.attach(model, {}, 1)
    torch.manual_seed(1)
    for parameter in with_adapter.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return base, with_adapter.eval()


def logits(model):
    ids = torch.arange(12)[None] + 5
    with torch.no_grad():
        return model(input_ids=ids).logits


def test_a_twin_shares_the_weights_and_stays_without_the_adapter():
    before, _ = load(TINY, "float32", "cpu")
    base, model = attached(Lora())
    assert torch.equal(logits(base), logits(before)) and not torch.allclose(logits(model), logits(before), atol=1e-3)
    shared = {p.data_ptr() for p in model.parameters()}
    assert all(p.data_ptr() in shared for p in base.parameters())
    assert not any("lora" in name for name, _ in base.named_modules())


def test_a_merged_copy_answers_as_the_attached_model_which_stays_as_it_was():
    base, model = attached(Lora())
    before = logits(model)
    merged, why_not = serving.merged_copy(model)
    assert why_not is None and torch.allclose(logits(merged), before, atol=1e-4)
    assert torch.equal(logits(model), before) and count(merged) == count(base)


def test_a_router_cannot_be_merged_and_its_parameters_are_kept():
    base, model = attached(MoLora())
    facts, tokens = serving.serve(base, model, 2, 250)
    assert facts["mergeable"] is False and "router decides per token" in facts["why_not"]
    assert facts["kept_parameters"] == count(model, trainable=True) > 0
    assert set(facts["forms"]) == {"base", "attached"}
    assert tokens == 2 * (2 + 2) * (1 + 2) * (8 + 4)  # forms, rounds with the first and the last, rows, tokens of each


def test_every_form_has_a_speed_a_round_and_a_peak_above_its_weights():
    base, model = attached(Lora())
    model.train()
    facts, _ = serving.serve(base, model, 3, 250)
    assert facts["mergeable"] is True and facts["kept_parameters"] == 0 and model.training and not base.training
    assert facts["weight_bytes"]["merged"] == facts["weight_bytes"]["base"] < facts["weight_bytes"]["attached"]
    for form, batches in facts["forms"].items():
        assert set(batches) == {"1", "2"}
        for entry in batches.values():
            assert len(entry["prefill"]) == len(entry["decode"]) == 3 and min(entry["prefill"] + entry["decode"]) > 0
            assert entry["peak_bytes"] is None or entry["peak_bytes"] >= facts["weight_bytes"][form]


def test_an_answer_has_as_many_tokens_as_were_asked_for_whatever_ends_one(monkeypatch):
    model, _ = load(TINY, "float32", "cpu")
    written = []
    generate = model.generate
    monkeypatch.setattr(model, "generate", lambda **asked: written.append(generate(**asked)))
    model.generation_config.eos_token_id = int(logits(model)[0, -1].argmax())
    speeds = serving.answer(model, torch.arange(12)[None].repeat(3, 1) + 5, 4)
    assert written[0].shape == (3, 12 + 4) and set(speeds) == {"prefill", "decode"}


@pytest.mark.parametrize("model", [TINY, RANDOM])
@pytest.mark.parametrize(("method", "mergeable"), [("frozen", None), ("lora", True), ("adalora", True), ("lora-smoe", False)])  # fmt: skip  # noqa: E501
def test_a_record_of_the_suite_says_what_is_kept(model, method, mergeable):
    (spec,) = resolve(Request(suite="serving", methods=method, model=model, device="cpu", dtype="float32", limit=1))
    assert spec.protocol == SERVING and not spec.scored and spec.train_documents == 32
    record = attempt(spec)
    assert record.error is None and record.scores == {}
    told = record.facts["serving"]
    assert told["mergeable"] is mergeable and (told["kept_parameters"] > 0) == (mergeable is False)
    assert record.costs["evaluate"].tokens > 0 and record.facts["shape"]["layers"] == 2
