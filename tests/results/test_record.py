"""Records are checked when they are made, written and read: types, ranges, sense."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from synthetic_records import make_record, make_spec

from results.record import (
    ACCURACIES,
    MEAN_TOLERANCE,
    SCHEMA,
    UPGRADES,
    Cost,
    Record,
    RecordError,
    RunSpec,
    Score,
    key_1,
)
from results.store import read, read_packed, record_files

RECORDS = Path(__file__).resolve().parents[2] / "results" / "records"
FIXTURES = Path(__file__).parent / "fixtures"
COMMITTED = ("main", "baseline", "costs")


def body(**changes):
    return {**json.loads(json.dumps(make_record("lora-smoe", layers=1).to_json())), **changes}


def score(outcomes=(1.0, 0.0), **changes):
    count = len(outcomes)
    fields = dict(
        metric="acc", value=sum(outcomes) / count, stderr=0.1, count=count, all_metrics={},
        documents=[str(i) for i in range(count)], outcomes=outcomes,
    )  # fmt: skip
    return Score(**{**fields, **changes})


@pytest.mark.parametrize("folder", COMMITTED)
def test_every_committed_record_is_read_under_its_stored_key(folder):
    files = [(file.stem, read(file)) for file in record_files(RECORDS / folder)]
    packed = []
    for pack in sorted((RECORDS / folder).glob("*.jsonl.xz")):
        keys = [line.split(",")[0] for line in pack.with_name(pack.name[:-9] + ".csv").read_text().splitlines()[1:]]
        packed += zip(keys, read_packed(pack), strict=True)
    assert len(files) + len(packed) >= {"main": 85, "baseline": 5, "costs": 70}[folder]
    for key, record in (*files, *packed):
        assert record.key == key and record.status == "done"
        assert record.schema == SCHEMA or record.key != record.spec.key


@pytest.mark.parametrize("file", sorted(FIXTURES.glob("*.json")), ids=lambda f: f.stem)
def test_a_record_of_schema_1_keeps_its_numbers_and_speaks_today_s_words(file):
    old = json.loads(file.read_text())
    record = read(file)
    assert record.schema == 1 and record.key == old["key"] == key_1(old["spec"])
    assert record.spec.task_shares == old["spec"]["mixture"] and record.spec.malloc == old["spec"]["allocator"]
    assert record.spec.adapters == {"multi": "shared", "single": "per-task"}[old["spec"]["adapters"]]
    assert record.facts == old["facts"] and list(record.losses or ()) == (old["losses"] or [])
    new = record.to_json()
    for name in ("scores", "costs", "data", "environment", "parameters"):
        then, now = old[name], json.loads(json.dumps(new[name]))
        for part, value in (then or {}).items():
            assert now[part] == value if not isinstance(value, dict) else value.items() <= now[part].items()


def test_every_earlier_schema_has_its_reader_and_an_unknown_one_is_refused():
    assert set(UPGRADES) == set(range(1, SCHEMA))
    with pytest.raises(RecordError, match=f"schema {SCHEMA + 6} is not known .known: 1, 2."):
        Record.from_json(body(schema=SCHEMA + 6))


@pytest.mark.parametrize("schema", [True, None, "2", [2], {}, 1])
def test_a_schema_of_another_type_or_the_words_of_another_schema_are_refused(schema):
    with pytest.raises(RecordError):
        Record.from_json(body(schema=schema))


def test_the_key_of_schema_2_hashes_its_own_words_and_whatever_changes_numbers():
    spec = make_spec()
    old = {**spec.to_json(), "mixture": spec.task_shares, "allocator": "heap", "adapters": "multi"}
    assert key_1({k: v for k, v in old.items() if k not in ("task_shares", "malloc")}) != spec.key
    changes = [
        {"micro_batch": 4}, {"suite_version": "2"}, {"model_content": "ab"}, {"targets": ("q_proj",)},
        {"targets": "all-linear"}, {"malloc": "mapped"}, {"adapters": "per-task"}, {"adapters": "merged"},
        {"gradient_checkpointing": True},
    ]  # fmt: skip
    keys = {dataclasses.replace(spec, **change).key for change in changes}
    assert len(keys | {spec.key}) == len(changes) + 1
    assert RunSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    earlier = {name: value for name, value in spec.to_json().items() if name != "gradient_checkpointing"}
    assert RunSpec.from_json(earlier) == spec  # what was written before the field came
    fields = {f.name for f in dataclasses.fields(RunSpec)}
    assert not fields & {"processes", "jobs", "executor", "save_every", "keep_adapters", "tracker"}


def test_an_adapter_is_trained_on_all_tasks_or_on_each():
    spec = make_spec(tasks=("a", "b"))
    assert spec.trained_tasks == ("a", "b")
    assert dataclasses.replace(spec, adapters="per-task", task="b").trained_tasks == ("b",)


def test_a_model_below_the_home_folder_is_named_without_it(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    assert make_spec(model="/home/ann/models/m").model == "~/models/m"
    assert make_spec(model="/home/anna/m").model == "/home/anna/m" and make_spec(model="a/b").model == "a/b"


def test_the_key_follows_the_spec_when_it_is_replaced():
    record = make_record("lora")
    other = dataclasses.replace(record, spec=dataclasses.replace(record.spec, seed=5))
    assert other.key == other.spec.key != record.key


def test_sensitivities_and_router_facts_keep_four_significant_digits():
    facts = {"sensitivity": {"t": {"b": 0.123456, "c": 1.0}}, "router": {"b": [123456.0, None]}, "experts": {"b": 3}}
    record = dataclasses.replace(make_record("lora"), facts={**facts, "adapters": {"t": facts}, "other": 0.123456})
    rounded = {"sensitivity": {"t": {"b": 0.1235, "c": 1.0}}, "router": {"b": [123500.0, None]}, "experts": {"b": 3}}
    assert record.facts == {**rounded, "adapters": {"t": rounded}, "other": 0.123456}


def test_log_likelihoods_are_kept_to_six_decimals_beside_bytes_and_gold():
    found = score(loglikelihoods=[[-1.23456789, -2], [-3.0]], choice_bytes=[[4, 5], [6]], gold=[1, None])
    assert found.loglikelihoods == ((-1.234568, -2.0), (-3.0,)) and found.gold == (1, None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"documents": ["a"]}, "count 2, 1 documents"),
        ({"gold": [0]}, "gold: 1 for 2 documents"),
        ({"answers": ["a"]}, "answers: 1 for 2"),
        ({"loglikelihoods": [[-1.0]]}, "loglikelihoods: 1 for 2"),
        ({"loglikelihoods": [[-1.0], [-1.0, -2.0]], "choice_bytes": [[1], [1]]}, "another number of choices"),
        ({"loglikelihoods": [[-1.0], [-1.0]], "gold": [0, 1]}, "beyond the choices"),
        ({"loglikelihoods": [[float("-inf")], [-1.0]]}, "finite"),
        ({"gold": [0, -1]}, "greater than or equal to 0"),
        ({"direction": "up"}, "'higher' or 'lower'"),
        ({"value": float("nan")}, "finite"),
        ({"stderr": -0.1}, "greater than or equal to 0"),
    ],
)
def test_a_score_that_does_not_hold_together_is_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        score(**changes)


@pytest.mark.parametrize("field", ["wall_seconds", "tokens", "peak_resident_bytes"])
def test_nothing_costs_less_than_nothing(field):
    fields = dict(wall_seconds=1.0, tokens=1, peak_allocated_bytes=1, peak_reserved_bytes=1, peak_resident_bytes=1)
    rank = Cost(**fields)
    assert Cost(**fields, meter="m", ranks=[rank, rank]).ranks == (rank, rank)
    with pytest.raises(ValidationError):
        Cost(**{**fields, field: -1})


def edited(*path, to):
    made = body()
    place = made
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = to
    return made


@pytest.mark.parametrize(
    ("path", "to", "said"),
    [
        (("scores", "boolq", "value"), 7.77, "scores.boolq.value: an accuracy lies between 0 and 1"),
        (("scores", "boolq", "value"), 0.999, "scores.boolq.value: 0.999 is not the mean of its outcomes"),
        (("scores", "boolq", "value"), "0.5", "scores.boolq.value"),
        (("scores", "boolq", "outcomes"), None, "scores.boolq.outcomes"),
        (("spec", "seed"), True, "spec.seed"),
        (("spec", "mixture"), "equal", "spec.mixture"),
        (("spec", "adapters"), "multi", "spec.adapters"),
        (("costs", "load"), None, "costs.load"),
        (("costs", "dream"), {"wall_seconds": 1.0}, "costs.dream"),
        (("parameters", "total"), -1, "parameters.total"),
        (("facts",), [], "facts"),
        (("environment",), None, "environment"),
        (("status",), "nearly", "status"),
        (("scores",), {}, "a score for every task"),
        (("key",), "x", "does not belong to its spec"),
        (("losses",), [1.0, "2"], "losses.1"),
        (("extra",), 1, "extra"),
    ],
)
def test_what_no_job_writes_is_refused_by_the_name_of_its_field(path, to, said):
    with pytest.raises(RecordError, match=said):
        Record.from_json(edited(*path, to=to))


def test_phases_beyond_the_four_are_start_and_prepare():
    record = make_record("lora")
    cost = record.costs["load"]
    costs = {"start": cost, "prepare": cost, **record.costs}
    assert Record.from_json(dataclasses.replace(record, costs=costs).to_json()).costs == costs
    with pytest.raises(RecordError, match="unknown phases sleep"):
        dataclasses.replace(record, costs={**record.costs, "sleep": cost}).check()


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=50), st.floats(-1, 2), st.sampled_from(ACCURACIES))
def test_an_accuracy_is_the_mean_of_its_outcomes_or_refused(outcomes, value, metric):
    record = dataclasses.replace(
        make_record("lora", layers=1, tasks=("a",)), scores={"a": score(tuple(outcomes), value=value, metric=metric)}
    )
    if 0 <= value <= 1 and abs(sum(outcomes) / len(outcomes) - value) <= MEAN_TOLERANCE:
        record.check()
    else:
        with pytest.raises(RecordError, match=r"scores.a.value"):
            record.check()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PLACES = [(name,) for name in body()] + [
    (outer, inner) for outer, value in body().items() if isinstance(value, dict) for inner in value
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PLACES), JSON)
def test_anything_in_any_place_gives_a_record_or_a_record_error(place, value):
    try:
        record = Record.from_json(edited(*place, to=value))
    except RecordError:
        return
    assert isinstance(record, Record)
