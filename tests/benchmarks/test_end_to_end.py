"""The command as a user types it, on the tiny model and real documents: jobs in processes of their own, records, table.

A job costs seconds of imports, so one run is shared by many claims and later runs go on in its folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import psutil
import pytest

from benchmarks import registry
from benchmarks.plan.parse import MAIN
from results import Record, RunSpec, Score
from results.metrics import job_seconds
from results.record import FURTHER_PHASES, PHASES, Cost, Parameters, json_schema
from results.store import Store

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ["--model", "tiny", "--train-documents", "16", "--limit", "1", "--dtype", "float32", "--device", "cpu"]
OPTIONS += ["--data-seed", "0"]  # of other documents some have answers too long for a tokeniser of bytes
METHODS = ("frozen", "lora", "lora-smoe")
TASKS = registry.suites()["commonsense"].tasks
PATIENCE = 90.0  # seconds until a process that should start or end is given up

BROKEN = """
from dataclasses import dataclass
from typing import ClassVar
from baselines.method import Method

@dataclass(frozen=True, kw_only=True)
class Broken(Method):
    name: ClassVar[str] = "broken"
    summary: ClassVar[str] = "fails, for a test"
    source: ClassVar[str] = "-"

    def attach(self, model, probe, total_steps):
        raise ArithmeticError(f"no adapter for {len(probe)} tasks")
"""


def environment(**more):
    return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **more}


def command(out, *arguments):
    return [sys.executable, "-m", "benchmarks.run", *OPTIONS, "--out", str(out), *arguments]


def run(out, *arguments, **more):
    return subprocess.run(
        command(out, *arguments), cwd=ROOT, env=environment(**more), capture_output=True, text=True, timeout=300
    )


def written(out):
    """Record file -> when it was written."""
    return {path.name: path.stat().st_mtime_ns for path in out.glob("*.json")}


def record(out, method, seed=0):
    (path,) = out.glob(f"commonsense--tiny--{method}--s{seed}--*.json")
    return path, Record.from_json({k: v for k, v in json.loads(path.read_text()).items() if k != "digest"})


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def first(out):
    """The first run; its folder is `out`."""
    return run(out, "--methods", ",".join(METHODS))


@pytest.fixture(scope="module")
def second(first, out):
    """The same command again, with the record files before and after it."""
    before = written(out)
    return run(out, "--methods", ",".join(METHODS)), before, written(out)


@pytest.fixture(scope="module")
def mended(second, out, tmp_path_factory):
    """A further seed and a contestant that fails, after one record was cut short."""
    folder = tmp_path_factory.mktemp("contestants")
    (folder / "broken.py").write_text(BROKEN)
    cut, _ = record(out, "frozen")
    cut.write_text(cut.read_text()[:300])
    before = written(out)
    done = run(out, "--methods", "broken,frozen,lora", "--seeds", "0,1", SMOE_METHODS=str(folder))
    return done, cut, before, written(out)


def test_the_run_ends_with_a_table_of_every_method(first):
    assert first.returncode == 0, first.stdout + first.stderr
    assert "3 jobs" in first.stdout
    table = first.stdout[first.stdout.index("lora-smoe") :]
    for heading in ("Macro", "Trainable", "Peak", "Time"):
        assert heading.lower() in first.stdout.lower()
    assert all(method in table for method in METHODS)


def test_every_job_leaves_one_readable_record_and_no_other_file(first, out):
    store = Store(out)
    assert [r.spec.method for r in store.all()] == sorted(METHODS) and not store.set_aside
    assert [r.status for r in store.all()] == ["done"] * 3
    assert not list((out / "logs").glob("*.spec.json")) and not list(out.glob(".*.part"))
    logs = [log.read_text() for log in (out / "logs").glob("*.log")]
    assert len(logs) == 3 and not any("Fatal Python error" in log for log in logs)  # an end without an abort


@pytest.mark.parametrize("method", METHODS)
def test_a_record_holds_every_field_of_the_design(first, out, method):
    path, found = record(out, method)
    body = json.loads(path.read_text())
    assert set(body) == {"key", "digest"} | {f.name for f in dataclasses.fields(Record)}
    assert set(body["spec"]) == {f.name for f in dataclasses.fields(RunSpec)}
    assert set(body["parameters"]) == {f.name for f in dataclasses.fields(Parameters)}
    assert list(body["scores"]) == list(TASKS) == list(body["data"])
    assert all(set(score) == {f.name for f in dataclasses.fields(Score)} for score in body["scores"].values())
    assert all(score["count"] == 1 == len(score["outcomes"]) for score in body["scores"].values())
    assert found.error is None and found.key == path.stem


@pytest.mark.parametrize("method", METHODS)
def test_every_phase_has_a_cost(first, out, method):
    _, found = record(out, method)
    assert set(found.costs) == {*PHASES, *FURTHER_PHASES} and tuple(p for p in found.costs if p in PHASES) == PHASES
    for phase, cost in found.costs.items():
        assert set(vars(cost)) == {f.name for f in dataclasses.fields(Cost)}
        assert cost.wall_seconds >= 0 and cost.peak_allocated_bytes is None
        assert cost.peak_resident_bytes is None or cost.peak_resident_bytes > 100e6
        assert (cost.tokens is not None) == (phase in ("train", "evaluate"))
    assert found.costs["evaluate"].tokens > 0
    trained = sum(d["train_tokens"] for d in found.data.values())
    assert found.costs["train"].tokens == (0 if method == "frozen" else trained)


def test_the_phases_of_a_job_together_are_its_wall_clock(first, out, tmp_path):
    _, found = record(out, "lora")
    (tmp_path / "spec.json").write_text(json.dumps(found.spec.to_json()))
    began = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.jobs.child", str(tmp_path / "spec.json"), str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as job:
        assert job.wait(PATIENCE) == 0  # its input stays open meanwhile, or it would end with its parent
    whole = time.perf_counter() - began
    assert job_seconds(record(tmp_path, "lora")[1]) == pytest.approx(whole, rel=0.05)


def test_training_documents_and_evaluation_documents_are_counted_and_hashed(first, out):
    _, found = record(out, "lora")
    assert all(d["train_documents"] == 2 and d["evaluation_documents"] == 1 for d in found.data.values())
    hashes = ("train_hash", "evaluation_hash", "prompt_hash")
    assert all(len(d[name]) == 12 for d in found.data.values() for name in hashes)
    assert len(found.losses) == 2 and all(loss > 0 for loss in found.losses)
    assert record(out, "frozen")[1].losses == ()
    assert record(out, "lora-smoe")[1].data == found.data
    steps = [[int(n) for n in entry["step_documents"].split()] for entry in found.data.values()]
    assert all(len(counts) == 2 and sum(counts) == 2 for counts in steps)  # a task's two documents, step by step
    assert {sum(counts) for counts in zip(*steps, strict=True)} == {8}  # documents of every step
    untrained = {t: {k: v for k, v in d.items() if k != "step_documents"} for t, d in found.data.items()}
    assert record(out, "frozen")[1].data == untrained


def test_parameters_are_counted(first, out):
    lora, smoe, frozen = (record(out, m)[1].parameters for m in ("lora", "lora-smoe", "frozen"))
    assert lora.trainable == lora.after_pruning == lora.active_per_token > 0 and lora.experts is None
    assert smoe.trainable == smoe.experts + smoe.router and smoe.router > 0
    assert frozen.trainable == 0 and frozen.adapter_bytes is None and frozen.experts is None
    assert frozen.total == lora.total - lora.trainable == smoe.total - smoe.trainable
    assert lora.adapter_bytes > 4 * lora.trainable


def test_lora_smoe_says_its_experts_and_the_sensitivity_they_come_from(first, out):
    facts = record(out, "lora-smoe")[1].facts
    assert sum(facts["experts"].values()) == 4 * len(facts["experts"]) == 56
    assert set(facts["sensitivity"]) == set(TASKS)
    assert all(set(scores) == set(facts["experts"]) for scores in facts["sensitivity"].values())


def test_a_record_says_where_it_comes_from_and_nothing_private(first, out):
    path, found = record(out, "lora")
    assert found.environment["versions"]["torch"] and found.environment["threads"] >= 1
    assert found.environment["device_busy_bytes"] is None and found.environment["deterministic"] is True
    assert found.environment["command"][1:3] == ["--model", "tiny"]
    assert str(ROOT) not in path.read_text() and str(out.parent) not in path.read_text()


def test_the_report_is_drawn_beside_the_records(first, out):
    assert list((out / "report").rglob("main.md")) and list((out / "report").rglob("*.png"))


def test_a_second_run_runs_nothing_and_prints_the_table(second):
    done, before, after = second
    assert done.returncode == 0 and "3 jobs, 3 finished before" in done.stdout
    assert after == before and len(after) == 3
    assert "done in" not in done.stdout and "Trainable" in done.stdout


def test_a_contestant_that_raises_becomes_a_failed_record_and_the_others_finish(mended, out):
    done, _, _, _ = mended
    assert done.returncode == 1 and "ArithmeticError: no adapter for 8 tasks" in done.stdout
    assert record(out, "frozen")[1].status == record(out, "lora", 1)[1].status == "done"
    for seed in (0, 1):
        _, failed = record(out, "broken", seed)
        assert failed.status == "failed" and failed.scores is None and failed.parameters is None
        assert failed.error.startswith("ArithmeticError: no adapter for 8 tasks (broken.py:")
        assert set(failed.costs) == {"start", "load", "prepare"} and set(failed.data) == set(TASKS)


def test_a_record_cut_short_is_named_and_set_aside_and_its_job_runs_again(mended, out):
    done, cut, before, after = mended
    assert f"set aside: {cut.name}.broken" in done.stdout
    assert (out / f"{cut.name}.broken").stat().st_size == 300
    assert after[cut.name] > before[cut.name] and record(out, "frozen")[1].status == "done"


def test_every_record_meets_its_schema(mended, out):
    validator = jsonschema.Draft202012Validator(json_schema())
    files = list(out.glob("commonsense--*.json"))
    assert len(files) > len(METHODS)
    assert not [error.message for file in files for error in validator.iter_errors(json.loads(file.read_text()))]


def test_a_new_seed_runs_only_the_new_jobs(mended, out):
    _, cut, before, after = mended
    new = {name.rsplit("--", 1)[0] for name in after.keys() - before.keys()}
    assert new == {f"commonsense--tiny--{m}" for m in ("broken--s0", "broken--s1", "lora--s1")}
    assert {name for name in before if after[name] != before[name]} == {cut.name}


@contextlib.contextmanager
def running(out, *arguments):
    """(process of the command, process of its first job), once the job has begun to load its model."""
    parent = subprocess.Popen(
        command(out, *arguments), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True,
        # A shell gives its background jobs an ignored Ctrl-C, and so to tests that run in one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    child = None
    try:
        for line in parent.stdout:
            if line.strip() == "load":
                break
        (child,) = psutil.Process(parent.pid).children()
        assert "benchmarks.jobs.child" in child.cmdline()
        yield parent, child
    finally:
        for process in (parent, child):
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                if process is not None:
                    process.kill()
        parent.wait(PATIENCE)


def ends(child):
    """Whether the process is gone, or a zombie that nobody collects, within PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.1)
                continue
        return True
    return False


@pytest.mark.parametrize(("kind", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_stopped_keeps_its_records_and_leaves_no_child(mended, out, kind, status):
    before = written(out)
    with running(out, "--methods", "lora", "--seeds", "0,7") as (parent, child):
        parent.send_signal(kind)
        rest, _ = parent.communicate(timeout=PATIENCE)
        assert parent.returncode == status and "finished records are kept" in rest
        assert ends(child)
    assert written(out) == before


def test_a_command_that_is_killed_leaves_no_child(mended, out):
    before = written(out)
    with running(out, "--methods", "lora", "--seeds", "8") as (parent, child):
        parent.kill()
        assert ends(child)
    assert written(out) == before


def test_the_main_contestants_are_all_there():
    assert set(METHODS) < set(MAIN) <= set(registry.methods())


def test_the_serving_suite_says_what_a_router_that_cannot_be_merged_costs(tmp_path):
    done = run(tmp_path, "--suite", "serving", "--methods", "lora,molora")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a router cannot be merged; molora writes at" in done.stdout
    assert (tmp_path / "serving" / "serving.png").is_file() and len(Store(tmp_path).all()) == 2
