"""The environment names what matters and nothing private."""

from __future__ import annotations

import getpass
import json
import platform
import subprocess
import sys
from pathlib import Path

from synthetic_records import make_environment, make_spec

from results.environment import ROOT, environment, fingerprint, git_state
from results.private import private_command


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


def test_paths_are_shortened_wherever_they_stand():
    root, home = Path("/srv/repo"), Path("/home/ann")
    argv = [
        "/srv/repo/run.py",
        "--out",
        "/srv/repo/results",
        "--records=/home/ann/a,/mnt/b/c",
        "/home/anna/x",
        "C:\\u\\v",
    ]
    expected = ["run.py", "--out", "./results", "--records=~/a,.../c", ".../x", ".../v"]
    assert private_command(argv, root, home) == expected
    assert private_command([], root, home) == []


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
