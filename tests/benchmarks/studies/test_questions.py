"""Every study says beforehand what it asks and what answers it, runs at size tiny, and is not run twice."""

from __future__ import annotations

import importlib
import re

import pytest
from typer.testing import CliRunner

from baselines.allocator import Allocator
from benchmarks import registry
from benchmarks.jobs import asking
from benchmarks.plan.parse import parse_methods
from benchmarks.plan.questions import SIZES, Scale, planned
from results.store import Store
from results.studies.study import Study
from smoe import block_params, block_shapes

NAMES = ("routing", "allocation", "scarcity", "interference", "granularity", "agreement", "longer")
FORMS = (*NAMES, "scarcity --long")


def question(name):
    study, *long = name.split()
    return getattr(importlib.import_module(f"benchmarks.studies.{study}"), "LONG" if long else "QUESTION")


@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param(n, size, marks=pytest.mark.slow if "--long" in n and size != "tiny" else [])
        for n in FORMS
        for size in SIZES
    ],
)
def test_arms_and_contrasts_fit_at_every_size_and_every_job_can_be_run(name, size):
    study, specs = planned(question(name), size)
    keys = {key for of_arm in study.arms.values() for key in of_arm}
    assert keys == {spec.key for spec in specs} and all(study.arms.values())
    assert {c.arm for c in study.contrasts if c.decides}
    methods = registry.methods()
    skeleton = asking.planned.__globals__["models"].skeleton(specs[0].model)
    for spec in {spec.method + str(spec.hyperparameters) + str(spec.task): spec for spec in specs}.values():
        methods[spec.method](**spec.hyperparameters).check(skeleton, spec.trained_tasks, 20)


def test_routing_probes_the_learned_routers_and_no_others():
    study, specs = planned(question("routing"), "tiny")
    by_key = {spec.key: spec for spec in specs}
    probed = {label for label, keys in study.arms.items() if all(by_key[k].probe_router for k in keys)}
    assert probed == {"molora", "lora-smoe", "molora, an expert a task"}
    assert {c.arm for c in study.contrasts if c.kind == "variant"} == {"molora", "lora-smoe"}


def test_random_allocations_differ_in_the_allocation_alone():
    study, specs = planned(question("allocation"), "small")
    by_key = {spec.key: spec for spec in specs}
    for spender in ("experts", "ranks"):
        drawn = [
            by_key[k] for label, keys in study.arms.items() if label.startswith(f"{spender}, random ") for k in keys
        ]
        assert len(drawn) == SIZES["small"].draws and {spec.seed for spec in drawn} == {0}
        told = [{k: v for k, v in spec.hyperparameters.items() if k != "allocation_seed"} for spec in drawn]
        assert all(settings == told[0] for settings in told)
        assert len({spec.hyperparameters["allocation_seed"] for spec in drawn}) == len(drawn)
        assert issubclass(registry.methods()[spender], Allocator)


def test_tasks_together_are_the_first_of_those_alone_on_as_many_documents_each():
    study, specs = planned(question("interference"), "small")
    by_key = {spec.key: spec for spec in specs}
    alone = [by_key[k] for k in study.arms["each alone"]]
    assert {spec.task for spec in alone} == set(alone[0].tasks) and len(alone) == 2 * 8
    for n in (2, 4, 8):
        (spec, *_) = [by_key[k] for k in study.arms[f"{n} tasks together"]]
        assert spec.tasks == alone[0].tasks[:n] and spec.train_documents == n * alone[0].train_documents // 8


def test_a_question_is_told_before_it_is_asked_and_bad_sizes_are_refused(tmp_path):
    app = importlib.import_module("benchmarks.studies.scarcity").app
    told = CliRunner().invoke(app, ["--size", "tiny", "--dry-run", "--out", str(tmp_path)])
    assert told.exit_code == 0 and not list(tmp_path.iterdir())
    for word in ("Question:", "Design:", "Yes:", "No:", "Undecided:", "Jobs: 20, of which 20 are left"):
        assert word in told.output
    refused = CliRunner().invoke(app, ["--size", "huge", "--out", str(tmp_path)])
    assert refused.exit_code == 2


def test_the_cost_is_told_in_hours_from_measured_speeds(tmp_path):
    app = importlib.import_module("benchmarks.studies.routing").app
    told = CliRunner().invoke(app, ["--size", "medium", "--dry-run", "--out", str(tmp_path)])
    hours = re.search(r"about ([\d.]+) hours for 48 of them", told.output)
    assert hours and 1 < float(hours[1]) < 100


def test_the_long_form_of_scarcity_is_what_was_specified():
    asked, means, ranks = question("scarcity --long"), (0.125, 0.25, 0.5, 1, 2, 4), (1, 8)
    scale = Scale(size=SIZES["small"], blocks=210, shapes={}, tasks=("boolq", "piqa"))
    arms = {arm.label: parse_methods(arm.request["methods"])[0].hyperparameters() for arm in asked.arms(scale)}
    assert len(arms) == len(means) * len(ranks) * (1 + 1 + 5 + 1 + 1)
    for r in ranks:
        for mean in means:
            total = round(210 * mean)
            here = {n.split(" at ")[0]: h for n, h in arms.items() if n.endswith(f" at {mean:g}, rank {r}")}
            assert len(here) == 9 and {h["allocation_seed"] for n, h in here.items() if "random" in n} == set(range(5))
            assert all((h["total_experts"], h["r"]) == (total, r) for n, h in here.items() if n != "ranks")
            assert here["ranks"]["total_ranks"] == r * total
    contrasts = asked.contrasts(scale)
    assert {c.arm for c in contrasts if c.decides} == {f"lora-smoe at 0.125, rank {r}" for r in ranks}
    assert all(len(c.among) == 5 for c in contrasts if c.decides)
    assert {label for panel in asked.curves(scale).values() for of in panel.values() for label in of} == set(arms)


def test_a_long_form_is_refused_where_there_is_none(tmp_path):
    app = importlib.import_module("benchmarks.studies.routing").app
    refused = CliRunner().invoke(app, ["--size", "tiny", "--long", "--dry-run", "--out", str(tmp_path)])
    assert refused.exit_code == 2 and "study routing has no long form" in refused.output


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n == "granularity" else pytest.mark.slow) for n in FORMS])
def test_a_study_of_size_tiny_runs_answers_and_is_not_run_twice(name, tmp_path, monkeypatch):
    study, *long = name.split()
    app = importlib.import_module(f"benchmarks.studies.{study}").app
    ran = CliRunner().invoke(app, ["--size", "tiny", "--out", str(tmp_path), *long])
    assert ran.exit_code == 0, ran.output
    study, records = Study.load(tmp_path), Store(tmp_path).all()
    assert {r.key for r in records} == {key for keys in study.arms.values() for key in keys}
    assert all(r.status == "done" for r in records), [r.error for r in records]
    page = (tmp_path / "report" / "study.md").read_text()
    assert page.startswith(f"# {study.question}") and f"{len(records)} of {len(records)} finished" in page
    assert all(contrast.name in page for contrast in study.contrasts) and "no records to compare" not in page
    monkeypatch.setattr(asking, "attempt", lambda *_: pytest.fail("a finished job was run again"))
    assert CliRunner().invoke(app, ["--size", "tiny", "--out", str(tmp_path), *long]).exit_code == 0


@pytest.mark.parametrize("size", SIZES)
def test_granularity_compares_mixtures_and_single_adapters_of_one_size(size):
    study, specs = planned(question("granularity"), size)
    by_key = {spec.key: spec for spec in specs}
    shapes = block_shapes(asking.planned.__globals__["models"].skeleton(specs[0].model))

    def params(arm):
        told = by_key[study.arms[arm][0]]
        experts = told.hyperparameters.get("num_experts", told.hyperparameters["r"])
        rank = 1 if told.method == "smora" else told.hyperparameters["r"]
        return sum(block_params(shape, experts, rank) for shape in shapes.values())

    for contrast in study.contrasts:
        assert params(contrast.arm) == pytest.approx(params(contrast.reference), rel=0.02)
        assert by_key[study.arms[contrast.reference][0]].hyperparameters["num_experts"] == 1
    assert len({c.reference for c in study.contrasts}) > 1
