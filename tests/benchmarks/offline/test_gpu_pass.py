"""The pass over a GPU node: plan, limits, going on, what a failure leaves; steps here are one-liners."""

from __future__ import annotations

import json
import shutil
import signal
import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from synthetic_records import make_record
from typer.testing import CliRunner

from benchmarks import run
from benchmarks.jobs import session
from benchmarks.jobs.meter import NO_COST
from benchmarks.models import assets
from benchmarks.models.load import skeleton
from benchmarks.offline import gpu_pass, gpu_size, gpu_steps, gpu_summary
from benchmarks.offline.gpu_pass import Step, app
from benchmarks.offline.gpu_size import SIZES, Size, fitting
from benchmarks.plan import match
from benchmarks.studies import shapes
from benchmarks.studies.published.contestants import FIRST, HELD, OWN, dealt
from results.record import PHASES
from smoe import block_params

BASE = Step(name="", what="a test", commands=[], expected=0.1, limit=1)


def writes(path, text):
    """Arguments of `python -m` that write a file."""
    return ["timeit", "-n1", "-r1", f"open({str(path)!r}, 'a').write({text!r})"]


@pytest.fixture
def steps(monkeypatch):
    """Sets the steps of the pass, given a function of its working folder."""
    return lambda made: monkeypatch.setattr(gpu_pass, "steps", lambda work, rehearse: made(work))


def invoke(out, *options):
    return CliRunner().invoke(app, ["--out", str(out), "--rehearse", *options], catch_exceptions=False)


def step_file(out, name):
    return json.loads((out / f"{name}.json").read_text())


def test_a_failing_step_is_recorded_and_the_rest_goes_on(steps, tmp_path):
    bad = ["timeit", "-n1", "-r1", "raise MemoryError('the card is full')"]
    good = ["timeit", "-n1", "-r1", "print('fine')"]
    steps(lambda work: [replace(BASE, name="a", commands=[bad, good]), replace(BASE, name="b", commands=[good])])
    result = invoke(tmp_path)
    assert result.exit_code == 1
    a, b = (step_file(tmp_path, name) for name in "ab")
    assert (a["status"], b["status"]) == ("failed", "done")
    assert [c["status"] for c in a["commands"]] == ["failed", "done"]
    assert "MemoryError: the card is full" in a["commands"][0]["said"][-1]
    page = (tmp_path / "summary.md").read_text()
    assert "| a | failed |" in page and "| b | done |" in page and "the card is full" in page


def test_a_finished_step_is_not_run_again_and_a_failed_one_is(steps, tmp_path):
    ran, flag = tmp_path / "ran", tmp_path / "flag"
    needs_flag = ["timeit", "-n1", "-r1", f"open({str(flag)!r})"]
    steps(
        lambda work: [
            replace(BASE, name="a", commands=[writes(ran, "a")]),
            replace(BASE, name="b", commands=[writes(ran, "b"), needs_flag]),
        ]
    )
    out = tmp_path / "out"
    assert invoke(out).exit_code == 1
    flag.touch()
    result = invoke(out)
    assert result.exit_code == 0 and ran.read_text() == "abb"
    assert "done before" in result.output and "failed before" in result.output


def test_a_step_out_of_time_is_stopped_and_the_next_one_runs(steps, monkeypatch, tmp_path):
    sleeps = ["timeit", "-n1", "-r1", "import time; time.sleep(60)"]
    steps(
        lambda work: [
            replace(BASE, name="a", commands=[sleeps, writes(tmp_path / "never", "")], limit=2 / 60),
            replace(BASE, name="b", commands=[["timeit", "-n1", "-r1", "pass"]]),
        ]
    )
    monkeypatch.setattr(gpu_pass, "LEAST_SECONDS", 0)
    result = invoke(tmp_path / "out")
    assert result.exit_code == 1 and not (tmp_path / "never").exists()
    assert step_file(tmp_path / "out", "a")["status"] == "out of time"
    assert step_file(tmp_path / "out", "b")["status"] == "done"


def test_nothing_is_started_that_the_budget_has_no_time_for(steps, tmp_path):
    steps(lambda work: [replace(BASE, name="a", commands=[writes(tmp_path / "never", "")])])
    result = invoke(tmp_path / "out", "--minutes", "0.1")
    assert result.exit_code == 1 and "not started, the budget is spent" in result.output
    assert not (tmp_path / "never").exists() and "| a | not run |" in (tmp_path / "out" / "summary.md").read_text()


def test_the_plan_comes_first_and_says_how_long(steps, tmp_path):
    steps(lambda work: [replace(BASE, name="a", commands=[["timeit", "-n1", "-r1", "pass"]], expected=3, limit=7)])
    lines = invoke(tmp_path).output.splitlines()
    assert "about 3 minutes, at most 7; to do: a test" in lines[1] and "together about 3 minutes" in lines[2]


def test_one_step_alone_and_a_wrong_name(steps, tmp_path):
    steps(lambda work: [replace(BASE, name=n, commands=[writes(tmp_path / n, "")]) for n in ("first", "second")])
    assert invoke(tmp_path / "out", "--only", "second").exit_code == 0
    assert (tmp_path / "second").exists() and not (tmp_path / "first").exists()
    result = invoke(tmp_path / "out", "--only", "secnd")
    assert result.exit_code == 2 and "did you mean second?" in result.output


@pytest.mark.filterwarnings("ignore:.*no readable record")
def test_a_pass_goes_on_elsewhere_from_the_files_at_the_top(steps, tmp_path):
    def made(work):
        leaves = ["timeit", "-n1", "-r1", f"open({str(work / 'found.json')!r}, 'a').write('{{}}')"]
        keeps = f"import os; os.makedirs({str(work / 'records')!r}); open({str(work / 'records' / 'r.json')!r}, 'w')"
        fails = ["timeit", "-n1", "-r1", "1 / 0"]
        return [
            replace(BASE, name="a", commands=[leaves, ["timeit", "-n1", "-r1", keeps], fails], results=("found.json",))
        ]

    steps(made)
    invoke(tmp_path / "out")
    assert step_file(tmp_path / "out", "a")["results"] == {"found.json": {}}
    there = tmp_path / "there"
    there.mkdir()
    for name in ("a.json", gpu_pass.RECORDS):
        shutil.copy(tmp_path / "out" / name, there)
    gpu_pass.restore(made(there / "work"), there, there / "work")
    assert json.loads((there / "work" / "found.json").read_text()) == {}
    assert (there / "work" / "records" / "r.json").is_file()


def test_a_step_that_ended_before_it_had_results_starts_anew(steps, tmp_path):
    steps(lambda work: [replace(BASE, name="a", commands=[["timeit", "-n1", "-r1", "1 / 0"]], results=("found.json",))])
    for _ in range(2):
        assert invoke(tmp_path / "out").exit_code == 1
        assert step_file(tmp_path / "out", "a")["results"] == {}
        assert not (tmp_path / "out-work" / "found.json").exists()


def test_the_folder_that_goes_back_stays_small_and_the_working_one_is_elsewhere(steps, tmp_path):
    steps(lambda work: [replace(BASE, name="a", commands=[writes(work / "large", "x")])])
    out, work = tmp_path / "out", tmp_path / "elsewhere"
    assert invoke(out, "--work", str(work)).exit_code == 0
    assert {p.name for p in out.iterdir()} == {"a.json", "summary.md"} and (work / "large").is_file()
    refused = invoke(out, "--work", str(out / "work"))
    assert refused.exit_code == 2 and "choose one outside" in refused.output
    names = {f"{step.name}.json" for step in gpu_steps.steps(work, rehearse=False)}
    assert len(names | {gpu_pass.RECORDS, "summary.md", "clocks.csv"}) <= 8


def test_what_follows_is_made_of_the_time_that_is_left_and_kept_for_the_next_try(steps, tmp_path):
    flag, asked = tmp_path / "flag", []

    def then(left):
        asked.append(left)
        return [writes(tmp_path / "ran", str(len(asked))), ["timeit", "-n1", "-r1", f"open({str(flag)!r})"]]

    steps(lambda work: [replace(BASE, name="a", commands=[writes(tmp_path / "ran", "-")], then=then)])
    assert invoke(tmp_path / "out").exit_code == 1 and 0 < asked[0] < 60
    flag.touch()
    assert invoke(tmp_path / "out").exit_code == 0
    assert (tmp_path / "ran").read_text() == "-1-1"  # planned once, though it was asked how long on either try


def job(documents, fixed, train, evaluate):
    """A finished job of one task that took so many seconds."""
    costs = {p: replace(NO_COST, wall_seconds=s) for p, s in zip(PHASES, (fixed, 0, train, evaluate), strict=True)}
    data = {"boolq": {"train_documents": documents, "evaluation_documents": 32}}
    return replace(make_record("lora", 0, layers=1, tasks=("boolq",)), costs=costs, data=data, losses=(1.0,))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(60, Size(320, 32)), (300, Size(1000, 100)), (1700, Size(8000, 400)), (1e5, Size(None, None))],
)
def test_the_comparison_has_as_much_data_as_fits(seconds, expected):
    measured = job(320, fixed=15, train=3.2, evaluate=0.64)  # 15 s + 10 ms a training document + 20 ms an answer
    found = fitting([measured], seconds, jobs=6)
    assert found == expected
    larger = SIZES[SIZES.index(found) + 1 :]
    for size in larger[:1]:
        answers = size.limit or gpu_size.EVERY[1]
        took = 6 * (15 + 0.01 * (size.documents or gpu_size.EVERY[0]) + 0.02 * answers)
        assert took + gpu_size.BETWEEN > gpu_size.SAFETY * seconds
    assert fitting([], seconds, jobs=6) == SIZES[0]
    at_once = SIZES.index(fitting([measured], seconds, jobs=6, together=3))
    assert at_once >= SIZES.index(found)  # of a few jobs side by side none waits for another


def test_a_rehearsal_and_a_card_do_not_share_a_folder(steps, tmp_path):
    steps(lambda work: [replace(BASE, name="a", commands=[["timeit", "-n1", "-r1", "pass"]])])
    invoke(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps({**step_file(tmp_path, "a"), "rehearsal": False}))
    result = invoke(tmp_path)
    assert result.exit_code == 2 and "holds results of a card" in result.output


def test_without_a_card_nothing_is_claimed(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_pass, "CARD", "raise SystemExit(1)")
    result = CliRunner().invoke(app, ["--out", str(tmp_path)])
    assert result.exit_code == 2 and "no CUDA device is available here" in result.output
    assert not list(tmp_path.glob("*.json"))


def test_an_interrupted_step_is_recorded_and_taken_up_again(steps, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    flag = tmp_path / "flag"
    stops = f"import os, signal, time; os.path.exists({str(flag)!r}) or (os.kill(os.getppid(), 15), time.sleep(30))"
    steps(lambda work: [replace(BASE, name="a", commands=[["timeit", "-n1", "-r1", stops]])])
    result = invoke(tmp_path / "out")
    assert result.exit_code == 1 and "the same command goes on" in result.output
    assert step_file(tmp_path / "out", "a")["status"] == "interrupted"
    flag.touch()
    assert invoke(tmp_path / "out").exit_code == 0
    assert signal.getsignal(signal.SIGTERM) is before  # or a pool of processes forked later could not be ended


def test_the_pass_asks_for_what_it_should(tmp_path, monkeypatch):
    found = {step.name: step for step in gpu_steps.steps(tmp_path, rehearse=False)}
    assert list(found) == ["tests", "speed", "shapes", "small", "commonsense"]
    assert sum(step.expected for step in list(found.values())[:4]) <= 6  # of twelve minutes
    monkeypatch.setattr(gpu_steps, "fitting", lambda records, left, jobs, together: Size(1000, 100))
    monkeypatch.setattr(session, "_check_data", lambda *_: None)
    planned = []
    for module, *arguments in [*found["commonsense"].commands, *found["commonsense"].then(300.0)]:
        assert module == "benchmarks.run" and arguments[arguments.index("--device") + 1] == "cuda"
        arguments[arguments.index("--device") + 1] = "cpu"  # a plan can be made here, too
        result = CliRunner().invoke(run.app, [*arguments, "--dry-run"], catch_exceptions=False)
        planned.append(json.loads(result.output))
    assert [len(jobs) for jobs in planned] == [1, gpu_steps.JOBS]
    assert found["commonsense"].then(300.0)[0][-2:] == ["--jobs", str(gpu_steps.TOGETHER)]
    seeds = [job["seed"] for job in planned[1]]
    assert seeds == sorted(seeds) and set(seeds) == {0, 1, 2}  # what is cut short is the last seed
    assert {job["method"] for job in planned[1] if job["seed"] == 0} == set(gpu_steps.METHODS.split(","))
    assert {job["evaluation_batch_size"] for job in planned[1]} == {64}
    assert {(job["train_documents"], job["evaluation_limit"]) for job in planned[1] if job["method"] != "frozen"} == {
        (1000, 100)
    }


def test_shapes_are_measured_for_every_method_and_go_on_where_they_failed(monkeypatch, tmp_path):
    out = tmp_path / "shapes.json"
    monkeypatch.setattr(shapes, "REHEARSAL", replace(shapes.REHEARSAL, documents=1))
    monkeypatch.setattr(assets, "embedded_model", lambda: pytest.fail("random weights need no tokeniser"))
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))  # the default takes minutes here
    few = {name: FIRST[name] for name in (OWN, "lora-smoe", "lora", HELD)}
    monkeypatch.setattr(shapes, "contestants", lambda every: few)
    measured = shapes.measured

    def dies(name, label, *rest):
        if label == "lora-smoe":
            raise SystemExit("killed")
        return measured(name, label, *rest)

    monkeypatch.setattr(shapes, "measured", dies)
    arguments = ["--out", str(out), "--rehearse"]
    assert CliRunner().invoke(shapes.app, arguments).exit_code != 0
    body = json.loads(out.read_text())
    assert [(e["method"], e["error"]) for e in body["entries"]] == [(OWN, None), ("lora-smoe", "the process ended")]
    first = body["entries"][0]
    assert first["steps"].keys() == {"1", "2"} and first["steps"]["2"]["profile"]["kernels"] > 100
    assert len(first["steps"]["2"]["profile"]["longest"]) == 10
    monkeypatch.setattr(shapes, "measured", measured)
    assert CliRunner().invoke(shapes.app, arguments, catch_exceptions=False).exit_code == 0
    body = json.loads(out.read_text())
    assert body["entries"][0] == first and [e["error"] for e in body["entries"]] == [None] * 4
    assert [row["bound"] for row in body["ratios"]] == [1.10, None, None, 1.0, 1.05, None, None, 1.0]
    assert [row["name"].split(":")[0] for row in body["compiled"]] == [
        "training step of lora",
        "training step of lora-smoe",
    ]


def test_shapes_of_which_nothing_could_be_measured_fail(monkeypatch, tmp_path):
    def fails(*_):
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(shapes, "weights", fails)
    arguments = ["--out", str(tmp_path / "shapes.json"), "--rehearse", "--parts", "entries"]
    assert CliRunner().invoke(shapes.app, arguments).exit_code == 1
    assert {e["error"] for e in json.loads((tmp_path / "shapes.json").read_text())["entries"]} == {
        "RuntimeError: no kernel image"
    }


def test_a_step_is_what_more_of_them_take():
    """A fixed cost of every call to `train` is not in it, and caches stay as they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "steps", lambda model, method, chosen: time.sleep(0.05 + 0.02 * len(chosen)))
        cost = shapes._step(None, None, ({}, 7), 4, "cpu")
    assert cost["wall_seconds"] == pytest.approx(0.02, rel=0.3) and cost["tokens"] == 7


def test_experts_are_dealt_as_a_real_model_has_them_at_the_size_of_the_others():
    found = shape_blocks("random:Qwen2.5-3B")
    placed = dealt(found)
    share = [sum(n == k for n in placed.values()) / len(placed) for k in (0, 1, 8)]
    assert share == pytest.approx([42 / 210, 26 / 210, 50 / 210], abs=0.01)
    params = sum(block_params(found[b], n, 8) for b, n in placed.items())
    assert params == pytest.approx(match.target("params", found), rel=0.02)


def shape_blocks(name):
    """Blocks of a published shape."""
    return match.shapes_of(skeleton(name))


def test_what_runs_out_of_memory_at_the_shapes_is_a_row(monkeypatch):
    def too_large(model, method, batch, count, device):
        if len(batch[0]["input_ids"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nmore")
        return {"wall_seconds": 1.0}

    monkeypatch.setattr(shapes, "_step", too_large)
    found = shapes.measured(shapes.REHEARSAL.models[0], "lora", "lora", shapes.REHEARSAL, "cpu")
    assert found["steps"]["1"] == {"wall_seconds": 1.0}
    assert found["steps"]["2"]["error"].startswith("OutOfMemoryError: CUDA out of memory") and found["error"] is None


def test_an_error_message_is_text_in_the_page():
    entry = {"model": "m", "method": "lora", "trainable_params": 1, "error": "<img src=x> | [a](b)", "steps": {}}
    assert r"&lt;img src=x&gt; \| [a\](b)" in gpu_summary._shapes([entry])
