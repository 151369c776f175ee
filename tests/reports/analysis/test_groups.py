"""Records that must not stand in one table never do, and the refusal names the field."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import synthetic_records
from synthetic_records import make_environment, make_failed, make_record, make_run

from reports.analysis import stats
from reports.analysis.groups import MixedError, load_records, make_groups
from reports.analysis.summary import detectable
from results.metrics import macro_accuracy
from results.store import Store


def test_one_run_is_one_group_in_the_house_order():
    (group,) = make_groups(make_run(seeds=(1, 0)))
    assert group.name == "commonsense--smollm2-135m--embedded--loglik--d640-e16"
    assert [row.label for row in group.rows] == ["frozen", "lora", "molora", "adalora", "lora-smoe"]
    assert group.rows[1].seeds == [0, 1]


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("dtype", make_record("molora", dtype="float32")),
        ("device_name", make_record("molora", env={"cpu_model": "Another CPU"})),
        ("torch", make_record("molora", env={"versions": {**make_environment()["versions"], "torch": "2.12.0"}})),
        ("peft", make_record("molora", env={"versions": {**make_environment()["versions"], "peft": "0.20.1"}})),
        ("commit", make_record("molora", env={"git_commit": "0" * 40})),
        ("documents", make_record("molora", count=39)),
        ("batch_size", make_record("molora", batch_size=8)),
        ("data_seed", make_record("molora", data_seed=3)),
    ],
)
def test_what_may_not_be_mixed_is_refused_by_name_and_can_be_split(field, other):
    records = [make_record("lora"), other]
    with pytest.raises(MixedError, match=f"differ in {field} .*--split-by {field}"):
        make_groups(records)
    groups = make_groups(records, split_by=[field])
    assert len(groups) == 2 and len({g.name for g in groups}) == 2


@pytest.mark.parametrize(
    "change", [{"protocol": "generative"}, {"source": "hub"}, {"train_documents": 1}, {"model": "x"}]
)
def test_protocol_source_size_and_model_are_groups_of_their_own(change):
    assert len(make_groups([make_record("lora"), make_record("lora", **change)])) == 2


def sampled(record, training):
    """The record with another hash of what it was trained on."""
    return dataclasses.replace(record, data={task: {"train_hash": f"{training} {task}"} for task in record.spec.tasks})


def test_seeds_may_train_on_other_samples_and_rows_are_paired_by_seed():
    records = [sampled(make_record(m, s, data_seed=s), s) for m in ("lora", "molora") for s in (0, 1)]
    (group,) = make_groups([sampled(make_record("frozen"), 0), *records])
    assert [row.seeds for row in group.rows] == [[0], [0, 1], [0, 1]] and not group.differing


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("data_seed", sampled(make_record("molora", 1, data_seed=0), 1)),
        ("training_data", sampled(make_record("molora", 1, data_seed=1), 0)),
    ],
)
def test_rows_that_trained_on_different_samples_at_one_seed_are_refused(field, other):
    records = [sampled(make_record("lora", s, data_seed=s), s) for s in (0, 1)]
    with pytest.raises(MixedError, match=f"differ in {field} "):
        make_groups([*records, other])


def test_versions_of_a_suite_are_groups_of_their_own_with_their_own_frozen_row():
    records = [make_record(m, suite_version=v) for m in ("frozen", "lora") for v in (None, "2")]
    old, new = make_groups(records)
    assert new.name == f"{old.name}--v2" and new.title.startswith("commonsense version 2, ")
    for group, version in ((old, None), (new, "2")):
        assert [row.method for row in group.rows] == ["frozen", "lora"]
        assert {r.spec.suite_version for r in group.records} == {version}


def test_a_commit_may_be_allowed_but_documents_may_not():
    records = [make_record("lora"), make_record("molora", env={"git_commit": "0" * 40})]
    (group,) = make_groups(records, allow=["commit"])
    assert list(group.differing) == ["commit"]
    with pytest.raises(MixedError, match="differ in documents"):
        make_groups([make_record("lora"), make_record("molora", count=39)], allow=["documents"])


def test_the_jobs_of_an_adapter_for_each_task_are_one_row_over_the_suite_beside_the_shared_one(tmp_path):
    record = make_record("lora")
    store = Store(tmp_path)
    store.save(record)
    for task in record.spec.tasks:
        spec = dataclasses.replace(record.spec, task=task, adapters="per-task")
        own = {"scores": {task: record.scores[task]}, "data": {task: record.data.get(task)}}
        store.save(dataclasses.replace(record, spec=spec, **own))
    (group,) = make_groups(load_records([tmp_path]))
    assert {row.label for row in group.rows} == {"lora (adapters=shared)", "lora (adapters=per-task)"}
    assert {macro_accuracy(r) for row in group.rows for r in row.done} == {macro_accuracy(record)}


def test_an_unknown_field_to_split_by_is_refused():
    with pytest.raises(ValueError, match="cannot split by 'colour'"):
        make_groups([make_record("lora")], split_by=["colour"])


def test_the_untrained_floor_belongs_to_every_training_size():
    floor = make_record("frozen", epochs=0.0, train_documents=0)
    groups = make_groups([floor, make_record("lora"), make_record("lora", train_documents=4000)])
    assert [[row.label for row in g.rows] for g in groups] == [["frozen", "lora"], ["frozen", "lora"]]
    assert [row.label for row in make_groups([floor])[0].rows] == ["frozen"]


def test_rows_of_one_method_are_told_apart_by_what_differs():
    records = [make_record("lora", hyperparameters={"r": r, "alpha": 16}) for r in (8, 32)]
    (group,) = make_groups([*records, make_record("molora")])
    assert [row.label for row in group.rows] == ["lora (r=32)", "lora (r=8)", "molora"]


def test_failed_records_neither_hide_nor_decide():
    failed = make_failed("molora", dtype="float32")
    (group,) = make_groups([make_record("lora"), failed])
    summaries = group.summaries
    assert summaries[1].macro is None
    assert summaries[1].note == "failed after load: ValueError: budget | of 3 is impossible"
    assert group.references[0].label == "lora" and group.compare(group.rows[0]) == []


def test_the_same_key_in_two_folders_counts_once_and_finished_wins(tmp_path):
    Store(tmp_path / "a").save(make_failed("lora"))
    Store(tmp_path / "b").save(make_record("lora"))
    Store(tmp_path / "b").save(make_record("lora", suite="glue"))
    records = load_records([tmp_path / "a", tmp_path / "b"], "commonsense")
    assert [r.status for r in records] == ["done"]


def test_seeds_are_averaged_document_by_document():
    (group,) = make_groups([make_record("lora", s) for s in (0, 1)])
    row = group.rows[0]
    both = [np.array(r.scores["piqa"].outcomes) for r in row.done]
    assert np.array_equal(row.outcomes("piqa"), (both[0] + both[1]) / 2)
    (summary,) = group.summaries
    assert summary.macro == pytest.approx(np.mean(summary.macro_seeds)) and summary.macro_deviation is not None


def test_pairs_use_the_seeds_in_common():
    records = [make_record("lora", s) for s in (0, 1)] + [make_record("molora", s) for s in (1, 2)]
    (group,) = make_groups(records)
    (comparison,) = group.compare(group.references[0])
    molora, lora = records[2], records[1]
    expected = np.mean([molora.scores[t].value - lora.scores[t].value for t in group.tasks])
    assert comparison.seeds == [1] and comparison.macro.value == pytest.approx(expected)
    low, high = detectable([comparison])
    assert 0 < low == high < 0.2


def test_one_seed_twice_in_a_row_is_refused():
    records = [make_record("lora"), make_record("lora", warmup_fraction=0.2, epochs=1.0)]
    with pytest.raises(MixedError, match="warmup_fraction"):
        make_groups(records)
    with pytest.raises(MixedError, match="one seed twice"):
        make_groups(records, allow=["warmup_fraction"])


def test_a_single_document_a_task_still_gives_a_summary():
    (group,) = make_groups([make_record(m, count=1) for m in ("lora", "molora")])
    assert all(s.macro_stderr is None for s in group.summaries)
    (comparison,) = group.compare(group.references[0])
    assert comparison.macro.p is None and detectable([comparison]) is None


def test_group_keys_are_safe_file_names():
    spec_model = "/srv/models/my model/"
    (group,) = make_groups([make_record("lora", model=spec_model, train_documents=None, evaluation_limit=None)])
    assert group.name == "commonsense--my-model--embedded--loglik--dall-eall"
    assert dataclasses.is_dataclass(group)


def test_runs_matched_in_another_way_are_groups_of_their_own():
    groups = make_groups([make_record("lora"), make_record("lora", match="params")])
    assert [g.name.split("--")[-1] for g in groups] == ["d640-e16", "match-params"]
    assert groups[1].title.endswith("matched on params")


def test_controls_are_tested_against_the_method_they_control_alone():
    (group,) = make_groups(make_run(("lora", "lora-smoe", "random-experts", "inverse-experts")))
    against = {c[0].reference.label: [one.row.label for one in c] for c in group.contrasts}
    assert against["lora-smoe"] == ["random-experts", "inverse-experts"]
    assert len(against["lora"]) == 3


@pytest.fixture
def ablated():
    """LoRA-SMoE with three seeds, another budget and another probe, and its controls."""
    methods = ("lora", "lora-smoe", "random-experts", "inverse-experts")
    records = [r for r in make_run(methods) if r.spec.method != "lora-smoe"]
    own = {"mean_experts": 4.0}
    records += [make_record("lora-smoe", hyperparameters=own, seed=seed) for seed in (0, 1, 2)]
    lucky = make_record("lora-smoe", hyperparameters={"mean_experts": 3.2})
    scores = {t: dataclasses.replace(s, value=1.0, outcomes=(1.0,) * s.count) for t, s in lucky.scores.items()}
    records += [dataclasses.replace(lucky, scores=scores)]
    records += [make_record("lora-smoe", hyperparameters=own, probe_documents=1)]
    (group,) = make_groups(records)
    return group


def test_ablations_are_no_contestants(ablated):
    assert [row.label for row in ablated.rows] == ["lora", "lora-smoe", "random-experts", "inverse-experts"]
    assert [row.label for row in ablated.ablations] == [
        "lora-smoe (mean_experts=3.2, probe_documents=8)", "lora-smoe (mean_experts=4.0, probe_documents=1)",
    ]  # fmt: skip
    assert len(ablated.records) == 8 and len(ablated.whole.rows) == 6
    assert max(ablated.whole.summaries, key=lambda s: s.macro).row in ablated.ablations
    assert next(s for s in ablated.summaries if s.best).row in ablated.rows


def test_controls_are_tested_against_the_method_s_own_row(ablated):
    (control,) = [c for c in ablated.contrasts if c[0].reference.method == "lora-smoe"]
    assert control[0].reference.seeds == [0, 1, 2] and control[0].reference is ablated.rows[1]


def test_without_its_own_row_a_setting_is_a_contestant_and_says_which_it_is():
    (group,) = make_groups([make_record("lora-smoe", hyperparameters={"mean_experts": 3.2})])
    assert [row.label for row in group.rows] == ["lora-smoe (mean_experts=3.2)"] and not group.ablations


def test_shapes_of_mola_are_contestants_its_own_first():
    shapes = ("diamond", "inverted-triangle")
    (group,) = make_groups([make_record("mola", hyperparameters={"shape": shape}) for shape in shapes])
    assert [row.label for row in group.rows] == ["mola (shape=inverted-triangle)", "mola (shape=diamond)"]
    assert group.own(["lora", "mola"]) == [group.rows[0]]


def test_ties_are_the_methods_that_documents_cannot_tell_from_the_best(monkeypatch):
    for method, skill in (("molora", 0.8), ("lora", 0.8), ("frozen", 0.3)):
        monkeypatch.setitem(synthetic_records.SKILL, method, skill)
    records = [make_record(method, count=400) for method in ("molora", "lora", "frozen")]
    found = {s.row.label: (s.best, s.tied) for s in make_groups(records)[0].summaries}
    assert sorted(found[m] for m in ("lora", "molora")) == [(False, True), (True, False)]
    assert found["frozen"] == (False, False)
    (alone,) = make_groups([make_record("lora")])[0].summaries
    assert alone.best and not alone.tied
    few = make_groups(make_run(count=1))[0].summaries
    assert all(s.tied or s.best for s in few) and {s.best_p for s in few} == {None}


def test_all_that_share_the_highest_mean_are_best():
    lora = make_record("lora")
    twin = dataclasses.replace(make_record("molora"), scores=lora.scores)
    found = {s.row.label: (s.best, s.best_p) for s in make_groups([lora, twin, make_record("frozen")])[0].summaries}
    assert found["lora"] == (True, None) and found["molora"] == (True, 1.0) and not found["frozen"][0]


def test_the_best_is_judged_over_all_pairs_each_on_its_seeds_in_common():
    seeds = {"lora": (0, 1), "molora": (0,), "adalora": (0, 1, 2), "lora-smoe": (0, 2), "frozen": (0,)}
    (group,) = make_groups([make_record(method, s) for method, own in seeds.items() for s in own])
    pairs = list(itertools.combinations(group.rows, 2))
    sides = [(row, sorted({*a.seeds} & {*b.seeds})) for a, b in pairs for row in (a, b)]
    outcomes = [np.array([row.outcomes(task, common) for row, common in sides]) for task in group.tasks]
    by_pair = dict(zip(pairs, stats.max_t(outcomes, [(2 * i, 2 * i + 1) for i in range(len(pairs))]), strict=True))
    best = next(s for s in group.summaries if s.best)
    assert best.best_p is None and not best.tied
    for other in (s for s in group.summaries if s is not best):
        (p,) = (p for pair, p in by_pair.items() if {*pair} == {best.row, other.row})
        assert other.best_p == pytest.approx(p) and other.tied == (p >= 0.05)
    assert {s.tied for s in group.summaries} == {True, False}


def test_a_row_ahead_on_the_seeds_in_common_is_never_below_the_best(monkeypatch):
    records = []
    for method, seed, skill in (("molora", 0, 0.6), ("lora-smoe", 0, 0.8), ("lora-smoe", 1, 0.2)):
        monkeypatch.setitem(synthetic_records.SKILL, method, skill)
        records.append(make_record(method, seed, count=200))
    molora, smoe = make_groups(records)[0].summaries
    assert molora.best and (smoe.best_p, smoe.tied) == (1.0, True)


def test_what_is_computed_of_a_group_is_computed_once():
    (group,) = make_groups(make_run())
    assert group.summaries is group.summaries
    assert group.compare(group.references[0]) is group.compare(group.references[0]) is group.contrasts[0]
