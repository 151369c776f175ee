"""The environment names what matters and nothing private."""

from __future__ import annotations

import getpass
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_records import make_environment, make_spec

from results import environment as module
from results.environment import (
    COMMIT,
    JOB_MODULE,
    SHARED,
    environment,
    fingerprint,
    git_state,
    other_jobs,
    shared_machine,
    tree_hash,
)  # fmt: skip
from results.private import ROOT
from results.store import Store


def test_environment_is_json_and_keeps_nothing_private(monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(ROOT / "benchmarks" / "run.py"), f"--out={Path.home()}/x", "/data/secret/m"])
    found = environment("Some GPU")
    text = json.dumps(found)
    assert found["device_name"] == "Some GPU"
    assert found["command"] == ["run.py", "--out=~/x", ".../m"]
    assert str(ROOT) not in text and str(Path.home()) + "/" not in text and "/data" not in text
    assert platform.node() not in text or len(platform.node()) < 4
    assert getpass.getuser() not in text or getpass.getuser() == "root"
    assert found["cpu_count"] >= 1 and found["memory_bytes"] > 1e6
    assert found["versions"]["numpy"] and set(found["versions"]) >= {"torch", "peft", "lm_eval"}
    assert found["timestamp"].endswith("+00:00")


def test_git_state_of_a_checkout_is_its_commit_and_whether_tracked_files_changed(tmp_path):
    def git(*args):
        subprocess.run(["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b.c", *args], check=True)

    assert git_state(tmp_path) == (None, None)
    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    assert git_state(tmp_path) == (None, True)
    git("commit", "-qm", "first")
    (tmp_path / "untracked").write_text("1")
    commit, dirty = git_state(tmp_path)
    assert len(commit) == 40 and dirty is False
    (tmp_path / "a").write_text("2")
    assert git_state(tmp_path) == (commit, True)
    git("checkout", "-q", "a")
    for output in ("README.md", "reports/out/README.md", "results/records/README.md", "reports/render/write.py"):
        (tmp_path / output).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / output).write_text("1")
        git("add", output)
    git("commit", "-qm", "second")
    for output in ("README.md", "reports/out/README.md", "results/records/README.md"):
        (tmp_path / output).write_text("2")  # a report drawn between two runs leaves the code what it was
    assert git_state(tmp_path)[1] is False
    (tmp_path / "reports" / "render" / "write.py").write_text("2")
    assert git_state(tmp_path)[1] is True
    git("checkout", "-q", "reports/render/write.py")
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / "notes.txt").write_text("1")
    assert git_state(tmp_path)[1] is False
    (tmp_path / "baselines" / "mine.py").write_text("1")  # would be found and run, but is in no commit
    assert git_state(tmp_path)[1] is True
    (tmp_path / "inside").mkdir()
    assert git_state(tmp_path / "inside") == (None, None)


def test_fingerprint_compares_minor_versions_and_the_device_that_ran():
    base = fingerprint(make_environment(), make_spec())
    patched = make_environment(versions={**make_environment()["versions"], "torch": "2.13.7+cu126"})
    assert base["torch"] == "2.13" and fingerprint(patched, make_spec()) == base
    assert fingerprint(make_environment(device_name="GPU"), make_spec()) == base
    assert fingerprint(make_environment(device_name="GPU"), make_spec(device="cuda"))["device_name"] == "GPU"
    assert fingerprint(make_environment(), make_spec(dtype="float32")) != base
    assert fingerprint({}, make_spec())["peft"] is None


COMMITTED = "0123456789" * 4


@pytest.fixture
def exported(tmp_path):
    """Code that goes without its git."""
    for name in ("smoe", "results"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").write_text(name)
    return tmp_path


def test_code_without_its_git_is_of_no_known_commit_unless_it_is_named(exported, monkeypatch):
    monkeypatch.delenv(COMMIT, raising=False)
    assert git_state(exported) == (None, None)
    monkeypatch.setenv(COMMIT, COMMITTED)
    assert git_state(exported) == (COMMITTED, None)  # nobody can tell whether it was changed since
    monkeypatch.setenv(COMMIT, f"{COMMITTED}:{tree_hash(exported)}")
    assert git_state(exported) == (COMMITTED, False)


@pytest.mark.parametrize("change", ["edit", "add", "rename", "remove"])
def test_code_that_is_not_the_named_tree_is_refused_before_anything_runs(exported, monkeypatch, change):
    monkeypatch.setenv(COMMIT, f"{COMMITTED}:{tree_hash(exported)}")
    file = exported / "smoe" / "a.py"
    if change == "edit":
        file.write_text("smo")
    elif change == "add":
        (exported / "smoe" / "b.yaml").write_text("")
    elif change == "rename":
        file.rename(exported / "smoe" / "b.py")
    else:
        file.unlink()
    with pytest.raises(ValueError, match="names the tree"):
        git_state(exported)
    monkeypatch.setattr("results.store.ROOT", exported)
    with pytest.raises(ValueError, match="names the tree"):
        Store(exported / "records").check_writable()


@pytest.mark.parametrize("named", ["main", "c0ffee", "0123456789" * 4 + ":", "0123456789" * 4 + ":0", " x"])
def test_what_is_no_commit_or_no_hash_is_refused(exported, monkeypatch, named):
    monkeypatch.setenv(COMMIT, named)
    with pytest.raises(ValueError, match=COMMIT):
        git_state(exported)


def test_a_checkout_s_own_commit_goes_before_the_named_one(monkeypatch):
    before = git_state(ROOT)
    monkeypatch.setenv(COMMIT, COMMITTED)
    assert git_state(ROOT) == before


def process(proc, pid, parent, *command):
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "stat").write_text(f"{pid} (a) b (c) S {parent} 0 0")
    (proc / str(pid) / "cmdline").write_bytes(b"\0".join(part.encode() for part in command) + b"\0")


def test_jobs_of_other_runs_are_seen_and_those_of_this_one_are_not(tmp_path):
    me = os.getpid()
    process(tmp_path, 1, 0, "init")
    process(tmp_path, 40, 1, "python", "-m", JOB_MODULE, "spec.json", "out")  # another run's
    process(tmp_path, 50, 1, "python", "-m", JOB_MODULE, "spec.json", "out")  # this process is its child
    process(tmp_path, me, 50, "python", "-m", JOB_MODULE, "spec.json", "out")
    process(tmp_path, me + 1, me, "python", "-m", JOB_MODULE, "spec.json", "out")
    process(tmp_path, me + 2, 1, "grep", f"x {JOB_MODULE}")
    (tmp_path / "77").mkdir()  # ended meanwhile
    assert other_jobs(tmp_path) == [40]
    assert other_jobs(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("load", "now", "jobs", "shared"),
    [
        (0.0, 0.0, 0, False),
        (0.9, 3.0, 0, False),
        (1.1, 1.1, 0, True),
        (1.1, None, 0, True),
        (4.0, 0.1, 0, False),  # what has just ended is load for a minute still
        (0.0, 0.0, 1, True),
    ],
)
def test_a_machine_is_shared_where_others_load_a_quarter_of_it_or_another_job_runs(
    monkeypatch, tmp_path, load, now, jobs, shared
):
    monkeypatch.setattr(module, "_cpu_count", lambda: 4)
    monkeypatch.setattr(module, "busy_cpus", lambda proc: now)
    monkeypatch.setattr(module.os, "getloadavg", lambda: (load, 0.0, 0.0))
    if jobs:
        process(tmp_path, 40, 1, "python", "-m", JOB_MODULE)
    assert shared_machine(tmp_path) is shared


def test_where_the_load_is_not_told_nobody_knows_whether_a_machine_is_shared(monkeypatch, tmp_path):
    monkeypatch.setattr(module.os, "getloadavg", lambda: (_ for _ in ()).throw(OSError()))
    assert shared_machine(tmp_path) is None


@pytest.mark.parametrize(("told", "shared"), [("1", True), ("0", False)])
def test_a_job_records_what_its_run_saw_at_its_start(monkeypatch, told, shared):
    monkeypatch.setenv(SHARED, told)
    found = environment()
    assert found["shared_machine"] is shared and found["execution"] is None


def test_busy_cpus_are_counted_from_the_ticks_that_were_not_idle(monkeypatch, tmp_path):
    lines = iter(["cpu 0 0 0 100 100 0 0 0 0 0\n", "cpu 10 5 5 160 120 0 0 0 0 0\n"])
    (tmp_path / "stat").write_text(next(lines))
    monkeypatch.setattr(module.time, "sleep", lambda seconds: (tmp_path / "stat").write_text(next(lines)))
    monkeypatch.setattr(module.os, "cpu_count", lambda: 10)
    assert module.busy_cpus(tmp_path) == pytest.approx(2.0)  # 20 of 100 ticks
    assert module.busy_cpus(tmp_path / "nowhere") is None
