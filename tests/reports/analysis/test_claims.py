"""A verdict follows from the records, and what cannot be told is called undecidable or not comparable."""

from __future__ import annotations

import dataclasses
import random

import pytest
from synthetic_records import make_record, make_score
from typer.testing import CliRunner

from reports.__main__ import app
from reports.analysis.claims import judge, ledger_table, load_claims
from reports.analysis.groups import make_groups
from results.record import Cost
from results.store import Store

SEEDS = (0, 1, 2)


def _records(method, skill=None, after_pruning=None, allocate=None, peak=None, count=200, seeds=SEEDS, **spec):
    return [_record(method, skill, after_pruning, allocate, peak, count, seed=seed, **spec) for seed in seeds]


def _record(method, skill=None, after_pruning=None, allocate=None, peak=None, count=200, **spec):
    """A job whose training took 100 s of 100 steps."""
    record = make_record(method, layers=1, count=count, **spec)
    if skill is not None:
        random_of = {t: random.Random(f"{method}{t}{record.spec.seed}") for t in record.spec.tasks}
        scores = {t: make_score(t, skill, count, random_of[t]) for t in record.spec.tasks}
        record = dataclasses.replace(record, scores=scores)
    if after_pruning is not None:
        counts = dataclasses.replace(record.parameters, after_pruning=after_pruning)
        record = dataclasses.replace(record, parameters=counts)
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
    return dataclasses.replace(record, costs=costs, losses=tuple(4.0 - i / 50 for i in range(100)))


def _verdicts(*records):
    flat = [r for part in records for r in (part if isinstance(part, list) else [part])]
    (group,) = make_groups(flat)
    return {v.claim["name"]: v for v in judge(group, load_claims())}


RIVALS = next(c["rivals"] for c in load_claims() if c["name"] == "accuracy")
CLAIMS = ("accuracy", "parameters", "memory", "overhead")


def test_a_clear_winner_reproduces_all_four_claims():
    rivals = [_records(method, 0.4, 1000, peak=1000) for method in (*RIVALS, "lora-own")]
    verdicts = _verdicts(*rivals, _records("lora-smoe", 0.6, 900, allocate=4.0, peak=1040))
    assert [verdicts[n].verdict for n in CLAIMS] == ["reproduced"] * 4
    assert "lora +" in verdicts["accuracy"].evidence and "(3 seeds)" in verdicts["accuracy"].evidence
    assert len(verdicts["accuracy"].records) == 3 * (1 + len(RIVALS))
    assert "104.0% of lora-own" in verdicts["memory"].evidence
    assert "in another library's layer: 104.0% of lora" in verdicts["memory"].evidence
    assert "4.0 training steps" in verdicts["overhead"].evidence and "0.8% of 500" in verdicts["overhead"].evidence


def test_one_seed_decides_nothing_about_a_method():
    rivals = [_records(method, 0.4, 1000, seeds=(0,)) for method in RIVALS]
    verdicts = _verdicts(*rivals, _records("lora-smoe", 0.6, 900, seeds=(0,)))
    for name in ("accuracy", "parameters"):
        assert verdicts[name].verdict == "undecidable" and "one seed: these models only" in verdicts[name].evidence


def test_methods_that_answer_alike_are_equivalent():
    rivals = [_records(method, 0.5, 1000, count=400) for method in RIVALS]
    twin = [dataclasses.replace(r, spec=dataclasses.replace(r.spec, method="lora-smoe")) for r in rivals[0]]
    others = [
        dataclasses.replace(r, spec=dataclasses.replace(r.spec, method=name)) for name in RIVALS[1:] for r in rivals[0]
    ]
    evidence = _verdicts(rivals[0], twin, others)["accuracy"]
    assert evidence.verdict == "equivalent" and "lora +0.0 [+0.0, +0.0]" in evidence.evidence
    assert "-0.0" not in evidence.evidence


def test_to_beat_one_rival_is_not_to_beat_all():
    verdicts = _verdicts(_records("lora", 0.4, 1000), _records("lora-smoe", 0.6, 900))
    for name in ("accuracy", "parameters"):
        assert verdicts[name].verdict == "undecidable"
        assert all(f" {rival}" in verdicts[name].evidence.split("no finished record of")[1] for rival in RIVALS[1:])


def test_as_many_parameters_are_not_fewer_however_accurate():
    rivals = [_records(method, 0.4, 1000) for method in RIVALS]
    verdicts = _verdicts(*rivals, _records("lora-smoe", 0.6, 950))
    assert verdicts["parameters"].verdict == "undecidable" and "no row with fewer" in verdicts["parameters"].evidence


def test_chance_is_judged_on_the_loss_where_records_hold_no_choices():
    controls = [_records(method, 0.5) for method in ("random-experts", "inverse-experts")]
    ours = [
        dataclasses.replace(r, losses=tuple(x - 0.2 - r.spec.seed / 100 for x in r.losses))
        for r in _records("lora-smoe", 0.5)
    ]
    verdict = _verdicts(*controls, ours)["beats chance"]
    assert verdict.verdict == "reproduced" and "loss before training" in verdict.evidence


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
    verdicts = _verdicts(
        _records("lora", 0.6, 1000),
        _records("lora-own", 0.6, 1000, peak=1000),
        _records("lora-smoe", 0.4, 900, allocate=51.0, peak=1200),
    )
    assert [verdicts[n].verdict for n in ("accuracy", "memory", "overhead")] == ["not reproduced"] * 3
    assert verdicts["parameters"].verdict == "undecidable"  # fewer, and worse


def test_a_fixed_cost_is_judged_at_one_length_whatever_the_run_s():
    short = _verdicts(_record("lora-smoe", allocate=51.0, train_documents=640))["overhead"]
    assert short.verdict == "not reproduced" and "51.0 training steps" in short.evidence
    assert _verdicts(_record("lora-smoe", allocate=4.0, train_documents=640))["overhead"].verdict == "reproduced"


def test_what_lies_between_is_undecidable():
    verdicts = _verdicts(_record("lora-own", 0.5, peak=1000), _record("lora-smoe", 0.5, allocate=30.0, peak=1070))
    assert [verdicts[n].verdict for n in ("memory", "overhead")] == ["undecidable"] * 2


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
    path.write_text("claims: [{name: x, kind: difference, method: lora, statement: s, source: s, model: any}]")
    with pytest.raises(ValueError, match="missing decided_by, measures, protocol, rivals"):
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
