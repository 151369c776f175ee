"""Children that hang, fall silent or leave something behind; logs; what the status command says of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from synthetic_records import make_failed, make_record, make_spec

from benchmarks.jobs import executors
from benchmarks.jobs.executors import LocalProcesses
from benchmarks.jobs.watch import leftovers, status, trackers
from benchmarks.jobs.watch.log import JobLog, Sweep, last_line, sweeps
from benchmarks.jobs.watch.pulse import Pulse, where
from benchmarks.jobs.watch.supervisor import Supervisor
from results.store import Store, StoreError

ROOT = Path(__file__).resolve().parents[4]


def child(code):
    return subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def follow(code, **options):
    """(why it was stopped, what it told)."""
    told = []
    process = child(code)
    try:
        return Supervisor(lambda *m: told.append(m), lambda: None, **options).follow(process), told
    finally:
        executors.stop(process)


def test_progress_facts_and_a_library_s_own_prints_are_told_apart():
    lines = [
        '["train", 1, 2, {"loss": 0.5}]',
        "hello",
        "[1, 2]",
        '{"at": "x.py:1"}',
        '["evaluate", 2, 2, {}]',
        "[" * 999,
    ]
    stopped, told = follow("\n".join(f"print({line!r})" for line in lines))
    assert stopped is None and told == [("train", 1, 2, {"loss": 0.5}), ("evaluate", 2, 2, {})]


def test_a_child_that_does_not_end_is_stopped_and_said_where():
    code = """print('["train", 3, 40, {}]'); print('{"at": "train.py:93"}'); import time; time.sleep(60)"""
    stopped, _ = follow(code, timeout=2.0)
    assert stopped == "no end after 2 s (--job-timeout): in train 3/40 at train.py:93"


def test_a_child_without_a_sign_of_life_is_stopped():
    stopped, _ = follow("""print('["load", 0, 1, {}]'); import time; time.sleep(60)""", silence=2.0)
    assert stopped == "no sign of life for 2 s: in load 0/1"


def test_what_a_child_started_and_left_behind_holds_nobody_up():
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(30)'])"
    start = time.monotonic()
    assert follow(code)[0] is None and time.monotonic() - start < 25


def test_a_pulse_beats_by_itself_and_says_the_line_of_our_own_code(monkeypatch):
    monkeypatch.setattr("benchmarks.jobs.watch.pulse.HEARTBEAT_SECONDS", 0.05)
    read, write = os.pipe()
    steps = []
    pulse = Pulse(lambda: 7, lambda step, facts: steps.append((step, facts)), write)
    pulse("load", 0, 1)
    pulse("train", 1, 2, loss=0.5, tokens=9)
    with os.fdopen(read) as lines:
        messages = [json.loads(lines.readline()) for _ in range(3)]
    facts = {"loss": 0.5, "tokens": 9, "memory_bytes": 7}
    assert messages[:2] == [["load", 0, 1, {}], ["train", 1, 2, facts]] and steps == [(1, facts)]
    assert messages[2]["at"].startswith("test_watch.py:")
    assert where(sys._getframe()).startswith("test_watch.py:") and where(None) == "nowhere"


@pytest.fixture
def hanging(monkeypatch):
    """Jobs whose process tells one step and then hangs."""
    code = """print('["train", 1, 9, {"loss": 1.5, "tokens": 8}]', flush=True); import time; time.sleep(60)"""
    monkeypatch.setattr(LocalProcesses, "_child", lambda *_: child(code))


def nobody(spec):
    return lambda *progress: None


def test_a_hung_job_becomes_a_failed_record_and_the_next_run_tries_again(tmp_path, hanging):
    store, spec = Store(tmp_path), make_spec()
    for _ in range(2):
        (record,) = LocalProcesses(store, job_timeout=1.0).run([spec], nobody)
        assert record.status == "failed" and record == store.load(spec.key)
        assert record.error == "TimeoutError: lora was stopped: no end after 1 s (--job-timeout): in train 1/9"
    lines = [json.loads(line) for line in (tmp_path / "logs" / f"{spec.key}.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", "progress", "end"]
    assert lines[1]["loss"] == 1.5 and lines[1]["tokens"] == 8 and lines[2]["status"] == "failed"
    assert not list((tmp_path / "logs").glob("*.spec.json"))


def test_a_store_that_goes_away_ends_the_run_and_is_not_made_anew(tmp_path, hanging):
    folder = tmp_path / "store"
    jobs = LocalProcesses(Store(folder), job_timeout=1.0).run([make_spec(), make_spec(seed=1)], nobody)
    next(jobs)
    shutil.move(folder, tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=r"has gone or been replaced.*give the same command again"):
        next(jobs)
    assert not folder.exists()
    shutil.move(tmp_path / "elsewhere", folder)
    assert Store(folder).load(make_spec().key) is not None


def test_a_job_in_hand_elsewhere_is_passed_over_and_taken_from_the_store_afterwards(tmp_path, hanging):
    store, first, second = Store(tmp_path), make_spec(), make_spec(seed=1)
    other = make_record()
    ready, go = threading.Event(), threading.Event()

    def hold():
        with leftovers.claim(tmp_path, first.key) as held:
            assert held
            ready.set()
            go.wait(30)
            Store(tmp_path).save(other)

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait(30)
    jobs = LocalProcesses(store, job_timeout=1.0).run([first, second], nobody)
    assert next(jobs).key == second.key  # not waited for
    go.set()
    assert next(jobs) == other
    thread.join()


def test_a_job_that_failed_in_another_run_meanwhile_is_not_tried_again(tmp_path, hanging):
    store, first, second = Store(tmp_path), make_spec(), make_spec(method="mola")
    jobs = LocalProcesses(store, job_timeout=1.0).run([first, second], nobody)
    next(jobs)
    failed = make_failed("mola", error="ValueError: elsewhere")
    Store(tmp_path).save(failed)
    assert next(jobs).error == "ValueError: elsewhere"


def test_leftovers_of_a_killed_run_go_and_those_in_hand_stay(tmp_path):
    gone, held = make_spec(), make_spec(seed=1)
    (tmp_path / "logs").mkdir()
    for key in (gone.key, held.key):
        (tmp_path / f".{key}.json.abc12345.part").write_text("{")
        (tmp_path / "logs" / f"{key}.spec.json").write_text("{}")
    (tmp_path / ".other.json.abc12345.part").write_text("new: another program may be at it")
    old = tmp_path / ".old.json.abc12345.part"
    old.write_text("")
    os.utime(old, (0, 0))
    (tmp_path / "notes.part").write_text("the user's own")
    with leftovers.claim(tmp_path, held.key) as mine:
        assert mine
        assert len(leftovers.clean(tmp_path)) == 3
    left = sorted(p.name for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".lock")
    assert left == sorted(
        [f".{held.key}.json.abc12345.part", f"{held.key}.spec.json", ".other.json.abc12345.part", "notes.part"]
    )


def test_a_part_of_a_record_is_named_after_it(tmp_path, monkeypatch):
    monkeypatch.setattr("os.replace", lambda source, target: (_ for _ in ()).throw(KeyboardInterrupt(source)))
    with pytest.raises(KeyboardInterrupt) as caught:
        Store(tmp_path).save(make_record(layers=1))
    assert Path(str(caught.value)).name.startswith(f".{make_record(layers=1).key}.json.")


def python(*arguments):
    return subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_status_tells_what_runs_what_failed_what_waits_and_when_it_ends(tmp_path):
    specs = {name: make_spec(method=name) for name in ("lora", "molora", "adalora", "mola")}
    store = Store(tmp_path)
    with Sweep(tmp_path, {s.key: 100.0 for s in specs.values()}) as sweep:
        store.save(done := make_record("lora"))
        store.save(failed := make_failed("adalora", error="FloatingPointError: adalora: the loss at step 3 is nan"))
        sweep.ended(done)
        sweep.ended(failed)
        log = JobLog(tmp_path, specs["molora"].key, 100.0)
        sweep.running(specs["molora"].key)
        log.progress("train", 3, 40, {"loss": 1.25, "tokens": 12_000, "memory_bytes": 2**30})
        now = status.status(tmp_path)
        assert now.counts() == {"running": 1, "failed": 1, "waiting": 1, "done": 1} and now.alive == 1
        assert now.seconds_left() == pytest.approx(200, abs=5)
        shown = python("benchmarks.status", str(tmp_path)).stdout
        assert "train 3/40, loss 1.250, 12,000 tokens, 1,024 MiB" in shown and "the loss at step 3 is nan" in shown
        assert "runs; 4 jobs: 1 running, 1 failed, 1 waiting, 1 done" in shown and "end: in about" in shown
        (path, _), *_ = sweeps(tmp_path)
        os.utime(path, (0, 0))  # killed long ago
        assert status.status(tmp_path).counts()["running"] == 0
        assert "the sweep was killed" in python("benchmarks.status", str(tmp_path)).stdout
    assert status.status(tmp_path).over and json.loads(python("benchmarks.status", str(tmp_path), "--json").stdout)


def test_status_of_what_is_no_store_of_a_sweep(tmp_path):
    refused = python("benchmarks.status", str(tmp_path / "absent"))
    assert refused.returncode == 2 and "is no folder" in refused.stderr
    (tmp_path / "logs" / "sweeps").mkdir(parents=True)
    for number, text in enumerate(["", "[" * 100_000, "[]", '{"jobs": 3, "ended": {}}', "\xff"]):
        (tmp_path / "logs" / "sweeps" / f"{number}.json").write_text(text)
    shown = python("benchmarks.status", str(tmp_path))
    assert shown.returncode == 0 and "no sweep has left a log here" in shown.stdout


def test_a_log_that_cannot_be_written_stops_no_job(tmp_path):
    (tmp_path / "logs").write_text("a file in the folder's place")
    log = JobLog(tmp_path, "key", None)
    log.progress("train", 1, 2, {"loss": 1.0})
    assert last_line(tmp_path, "key") == {}


def test_an_unknown_or_absent_tracker_is_refused_with_the_way_out(monkeypatch):
    with pytest.raises(ValueError, match="unknown tracker 'trackoi'; did you mean trackio"):
        trackers.check("trackoi")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install wandb, or leave --tracker out"):
        trackers.check("wandb")


@pytest.fixture
def run_of_trackio(tmp_path, monkeypatch):
    """What a stand-in for the package is told by accelerate's own class."""
    told = []
    run = SimpleNamespace(log=lambda values, step=None: told.append((step, values)), finish=lambda: told.append("end"))
    fake = SimpleNamespace(init=lambda **options: told.append(options) or run, config={})
    fake.config = SimpleNamespace(update=lambda values, **_: told.append(values))
    monkeypatch.setitem(sys.modules, "trackio", fake)
    return told


def test_a_tracker_is_told_of_every_step_and_of_the_scores(tmp_path, run_of_trackio):
    record = make_record(layers=1)
    tracker = trackers.Tracker("trackio", record.spec, tmp_path)
    tracker.step(1, {"loss": 0.5, "tokens": 3, "memory_bytes": None})
    tracker.end(record)
    options, configuration, first, last, end = run_of_trackio
    assert options == {"project": "smoe-bench", "name": record.key} and configuration["method"] == "lora"
    assert first == (1, {"loss": 0.5, "tokens": 3}) and end == "end"
    assert last[1]["score/boolq"] == record.scores["boolq"].value and last[1]["done"] == 1


def test_a_tracker_that_fails_stops_no_job(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    tracker = trackers.Tracker("trackio", make_spec(), tmp_path)
    tracker.step(1, {"loss": 0.5})
    tracker.end(make_record(layers=1))
    assert capsys.readouterr().err.count("Traceback") == 1


@pytest.mark.skipif(trackers.importlib.util.find_spec("trackio") is None, reason="trackio is not installed")
def test_trackio_itself_keeps_a_run_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    record = make_record(layers=1)
    tracker = trackers.Tracker("trackio", record.spec, tmp_path)
    tracker.step(1, {"loss": 0.5})
    tracker.end(record)
    assert not tracker._failed and list((tmp_path / "trackio").rglob("*.db"))
