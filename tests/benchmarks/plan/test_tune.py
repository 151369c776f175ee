"""One grid for every method, on documents that are neither trained on nor evaluated, and all of it on record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import registry
from benchmarks.data import sources
from benchmarks.plan import tune
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from results.store import Store
from results.tuning import HELD_OUT

ROOT = Path(__file__).resolve().parents[3]
TASKS = registry.suites()["commonsense"].tasks
RATES = (1e-4, 1e-3)


def test_rates_are_read_in_order_and_refused_by_name():
    assert tune.parse_rates("1e-3,1e-4, 3e-4") == (1e-4, 3e-4, 1e-3)
    for text in ("1e-3", "1e-3,1e-3", "1e-3,0", "1e-3,nan", "fast,slow", ""):
        with pytest.raises(ValueError, match=r"tune-lr .*1e-4,3e-4,1e-3"):
            tune.parse_rates(text)


def test_every_method_that_trains_has_the_same_grid_on_the_first_seed():
    specs = resolve(Request(methods="frozen,lora,molora", seeds="3,5", model="tiny", device="cpu"))
    grids = tune.grids(specs, RATES)
    jobs = [job for own in grids.values() for job in own]
    assert [(j.method, j.learning_rate, j.seed, j.split) for j in jobs] == [
        (method, rate, 3, HELD_OUT) for method in ("lora", "molora") for rate in RATES
    ]
    assert tune.grids(specs, ()) == {}
    (full,) = resolve(Request(methods="full", model="tiny", device="cpu"))
    (jobs,) = tune.grids([full], tune.RATES).values()
    assert [j.learning_rate for j in jobs] == [1.25e-5, 3.15e-5, 7.9e-5, 2e-4]


def test_a_method_whose_whole_grid_failed_is_left_out_by_name():
    specs = resolve(Request(methods="frozen,lora", model="tiny", device="cpu"))
    ready, undecided = tune.apply_best_rates(specs, tune.grids(specs, RATES), lambda spec: None)
    assert [s.method for s in ready] == ["frozen"] and [s.method for s in undecided] == ["lora"]


@pytest.fixture(scope="module")
def both():
    return sources.splits("embedded", TASKS), sources.splits("embedded", TASKS, HELD_OUT)


@pytest.mark.parametrize("task", TASKS)
def test_held_out_documents_are_a_part_of_the_training_documents(both, task):
    whole, cut = both[0][task], both[1][task]
    train, kept, held = (
        {sources.fingerprint(d) for d in part} for part in (whole["train"], cut["train"], cut["evaluate"])
    )
    assert kept | held == train and not kept & held
    assert not held & {sources.fingerprint(d) for d in whole["evaluate"]}
    assert 0.1 < len(held) / len(train) < 0.3
    names = sources.EMBEDDED[task].groups([*cut["train"], *cut["evaluate"]])
    assert not set(names[: len(cut["train"])]) & set(names[len(cut["train"]) :])


def test_an_unknown_split_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown split 'heldout'; did you mean held-out"):
        sources.splits("embedded", TASKS, "heldout")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    out = tmp_path_factory.mktemp("tuned")
    command = [
        sys.executable,
        "-m",
        "benchmarks.run",
        "--tasks",
        "arc_easy,openbookqa",
        "--model",
        "tiny",
        "--train-documents",
        "128",
        "--limit",
        "2",
    ]
    command += ["--max-length", "1024"]
    command += ["--methods", "frozen,lora", "--tune-lr", "1e-4,1e-2", "--dtype", "float32", "--out", str(out)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def run(*more):
        return subprocess.run(
            [*command, *more], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    return out, run, run("--dry-run"), run()


def test_the_plan_says_what_the_grid_has_yet_to_decide(tuned):
    _, run, before, _ = tuned
    plan = json.loads(before.stdout)
    assert [(j["method"], j["split"], j["learning_rate"]) for j in plan] == [
        ("lora", HELD_OUT, 1e-4), ("lora", HELD_OUT, 1e-2),
        ("frozen", "evaluation", 5e-4), ("lora", "evaluation", None),
    ]  # fmt: skip
    assert all(j["key"] for j in json.loads(run("--dry-run").stdout))


def test_the_tuned_run_has_the_rate_that_won_and_the_grid_is_on_record(tuned):
    out, _, _, done = tuned
    assert done.returncode == 0, done.stderr
    records = Store(out).all()
    grid = [r for r in records if r.spec.split == HELD_OUT]
    final = [r for r in records if r.spec.split != HELD_OUT]
    rates = {r.spec.learning_rate for r in grid}
    assert {r.spec.method for r in grid} == {"lora"} and rates > {1e-4, 1e-2}
    (further,) = rates - {1e-4, 1e-2}  # of two rates one is best, and both are an edge
    assert further in (3.97e-5, 2.52e-2) and "one rate beyond" in done.stdout
    (lora,) = [r for r in final if r.spec.method == "lora"]
    winner = next(r for r in grid if r.spec.learning_rate == lora.spec.learning_rate)
    assert replace(winner.spec, split="evaluation", train_documents=128) == lora.spec
    assert winner.spec.train_documents == 32
    assert "Learning rates" in done.stdout and "Chosen" in done.stdout
    held = {(t, d) for r in grid for t, s in r.scores.items() for d in s.documents}
    assert not held & {(t, d) for r in final for t, s in r.scores.items() for d in s.documents}
    assert "Learning rates" in (next((out / "report").glob("*/main.md"))).read_text()
