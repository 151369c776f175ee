"""A verdict follows from the records, and what cannot be told is called undecidable or not comparable."""

from __future__ import annotations

import dataclasses

import pytest
from synthetic_records import make_record, make_score
from typer.testing import CliRunner

from reports.__main__ import app
from reports.analysis.claims import judge, ledger_table, load_claims
from reports.analysis.groups import make_groups
from results.record import Cost
from results.store import Store


def _record(method, skill=None, trainable=None, allocate=None, peak=None, count=200, **spec):
    import random

    record = make_record(method, layers=1, count=count, **spec)
    if skill is not None:
        scores = {t: make_score(t, skill, count, random.Random(method + t)) for t in record.spec.tasks}
        record = dataclasses.replace(record, scores=scores)
    if trainable is not None:
        record = dataclasses.replace(record, parameters=dataclasses.replace(record.parameters, trainable=trainable))
    costs = {}
    for phase, cost in record.costs.items():
        seconds = allocate if allocate is not None and phase == "allocate" else cost.wall_seconds
        costs[phase] = Cost(
            wall_seconds=100.0 if phase == "train" else seconds,
            tokens=cost.tokens,
            peak_allocated_bytes=None,
            peak_reserved_bytes=None,
            peak_resident_bytes=peak or cost.peak_resident_bytes,
        )
    return dataclasses.replace(record, costs=costs)


def _verdicts(*records):
    (group,) = make_groups(records)
    return {v.claim["name"]: v for v in judge(group, load_claims())}


RIVALS = next(c["rivals"] for c in load_claims() if c["name"] == "accuracy")


def test_a_clear_winner_reproduces_all_four_claims():
    rivals = [_record(method, 0.4, 1000, peak=1000) for method in RIVALS]
    found = _verdicts(*rivals, _record("lora-smoe", 0.6, 900, allocate=4.0, peak=1040))
    assert [found[n].verdict for n in ("accuracy", "parameters", "memory", "overhead")] == ["reproduced"] * 4
    assert "lora +" in found["accuracy"].evidence and len(found["accuracy"].records) == 1 + len(RIVALS)
    assert "104.0% of lora" in found["memory"].evidence and "4.0% of its" in found["overhead"].evidence


def test_to_beat_one_rival_is_not_to_beat_all():
    found = _verdicts(_record("lora", 0.4, 1000), _record("lora-smoe", 0.6, 900))
    for name in ("accuracy", "parameters"):
        assert found[name].verdict == "undecidable"
        assert all(f" {rival}" in found[name].evidence.split("no finished record of")[1] for rival in RIVALS[1:])


def test_no_difference_is_not_minus_zero():
    same = _record("lora-smoe", 0.5)
    twin = dataclasses.replace(same, spec=dataclasses.replace(same.spec, method="lora"))
    evidence = _verdicts(same, twin)["accuracy"].evidence
    assert "lora +0.0 [+0.0, +0.0]" in evidence and "-0.0" not in evidence


def test_every_claim_says_whose_it_is_for_what_and_what_decides_it():
    claims = load_claims()
    for claim in claims:
        assert all(str(claim[name]).strip() for name in ("source", "model", "protocol", "decided_by"))
    assert {"accuracy", "parameters", "memory", "overhead"} <= {c["name"] for c in claims}
    (group,) = make_groups([_record("lora")])
    rows = ledger_table(group, judge(group, claims)).rows
    for claim, row in zip(claims, rows, strict=True):
        assert claim["source"] in row and claim["decided_by"] in row


def test_a_clear_loser_reproduces_none():
    long = {"train_documents": 4000}
    found = _verdicts(
        _record("lora", 0.6, 1000, peak=1000, **long),
        _record("lora-smoe", 0.4, 1100, allocate=50.0, peak=1200, **long),
    )
    assert [found[n].verdict for n in ("accuracy", "parameters", "memory", "overhead")] == ["not reproduced"] * 4


def test_a_short_training_cannot_refute_that_a_fixed_cost_is_small():
    found = _verdicts(_record("lora"), _record("lora-smoe", allocate=50.0, train_documents=640))["overhead"]
    assert found.verdict == "undecidable" and "50.0% of its" in found.evidence
    assert "640 training documents are too few to refute it" in found.evidence
    assert _verdicts(_record("lora-smoe", allocate=4.0, train_documents=640))["overhead"].verdict == "reproduced"


def test_what_lies_between_is_undecidable():
    found = _verdicts(_record("lora", 0.5, 1000, peak=1000), _record("lora-smoe", 0.5, 1001, allocate=7.0, peak=1070))
    assert [found[n].verdict for n in ("accuracy", "parameters", "memory", "overhead")] == ["undecidable"] * 4


def test_without_the_method_or_its_rivals_nothing_is_decided():
    assert {v.verdict for v in _verdicts(_record("lora")).values()} == {"undecidable", "not comparable"}
    assert _verdicts(_record("lora-smoe"))["accuracy"].evidence == "no finished record of a rival"


def test_published_numbers_need_the_same_model_protocol_and_splits():
    found = _verdicts(_record("lora"))["published lora, LLaMA2-7B"]
    assert found.verdict == "not comparable"
    assert "model smollm2-135m" in found.evidence and "embedded split" in found.evidence
    same = {"model": "meta-llama/Llama-2-7b-hf", "protocol": "generative", "source": "hub", "evaluation_limit": None}
    smaller = _verdicts(_record("lora", **same))["published lora, LLaMA2-7B"]
    assert smaller.verdict == "not comparable" and smaller.evidence == "rank is not 32"
    same["hyperparameters"] = {"r": 32, "alpha": 64}
    assert _verdicts(_record("lora", **same))["published lora, LLaMA2-7B"].verdict == "not reproduced"
    assert _verdicts(_record("lora", **same))["published dora, LLaMA2-7B"].verdict == "undecidable"


def test_a_ledger_with_a_mistake_is_refused_by_name(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text("claims: [{name: x, kind: guess}]")
    with pytest.raises(ValueError, match="claim 'x': kind 'guess'"):
        load_claims(path)
    path.write_text("claims: [{name: x, kind: accuracy, method: lora, statement: s, source: s, model: any}]")
    with pytest.raises(ValueError, match="missing decided_by, protocol, rivals"):
        load_claims(path)


def test_claims_are_printed_with_their_records(tmp_path):
    for method in ("lora", "lora-smoe"):
        Store(tmp_path).save(_record(method))
    result = CliRunner().invoke(app, ["claims", "--records", str(tmp_path)])
    assert (
        result.exit_code == 0
        and "2505.06272" in result.output
        and "commonsense--smollm2-135m--lora--s0" in result.output
    )
