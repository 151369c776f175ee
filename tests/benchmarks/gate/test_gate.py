"""The gate in CI: which baseline it compares with, and where that is measured. No job runs here."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_records import make_failed, make_run
from typer.testing import CliRunner

from benchmarks.gate import __main__ as gate
from results.store import Store

METHODS = ("lora", "lora-smoe")


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """(folder of a repository with two commits, the first one, the second one); the gate takes it for its own."""
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "--quiet")
    for text in ("old", "new"):
        (root / "code.txt").write_text(text)
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "--message", text)
    monkeypatch.setattr(gate, "ROOT", root)
    return root, git(root, "rev-parse", "HEAD~1"), git(root, "rev-parse", "HEAD")


def records(commit, **env):
    return make_run(METHODS, layers=2, env={"git_commit": commit, **env})


@pytest.fixture
def command(repository, tmp_path, monkeypatch):
    """Run the gate on a baseline and what this machine would measure; the second value lists what was measured."""
    root, old, new = repository
    measured = []

    def invoke(baseline, here, *options):
        for record in baseline:
            Store(tmp_path / "baseline").save(record)

        def measure(at, out, runs=gate.RUNS):
            measured.append((at == root, (at / "code.txt").read_text()))
            return here(old if at != root else new)

        monkeypatch.setattr(gate, "measured", measure)
        return CliRunner().invoke(gate.app, ["--baseline", str(tmp_path / "baseline"), *options]), measured

    return invoke


def test_on_the_baseline_s_machine_the_committed_records_are_compared(command, repository):
    _, old, _ = repository
    result, measured = command(records(old), records)
    assert result.exit_code == 0 and measured == [(True, "new")]


def test_on_another_machine_the_baseline_s_commit_is_measured_beside_this_one(command, repository):
    root, old, _ = repository
    result, measured = command(records(old), lambda commit: records(commit, cpu_model="Other CPU"))
    assert result.exit_code == 0 and measured == [(True, "new"), (False, "old")]
    assert "device_name differs" in result.stdout and old[:12] in result.stdout
    assert len(git(root, "worktree", "list").splitlines()) == 1


def test_the_baseline_s_commit_is_measured_on_its_own_machine_when_asked_for(command, repository):
    _, old, _ = repository
    result, measured = command(records(old), records, "--beside")
    assert result.exit_code == 0 and measured == [(True, "new"), (False, "old")]


@pytest.mark.parametrize("factors", [{"wall_seconds": 20.0}, {"peak_resident_bytes": 1.05}], ids="-".join)
@pytest.mark.parametrize(("sessions", "status"), [(1, 0), (2, 1)])
def test_a_costlier_phase_counts_when_a_second_session_finds_it_too(command, repository, sessions, status, factors):
    _, old, new = repository
    measured_new = []

    def here(commit):
        found = records(commit)
        measured_new.extend([commit] * (commit == new))
        if commit == old or len(measured_new) > sessions:
            return found
        return [costlier(r) if r.spec.method != "lora" else r for r in found]

    def costlier(record):
        train = record.costs["train"]
        more = {name: type(getattr(train, name))(getattr(train, name) * factor) for name, factor in factors.items()}
        return replace(record, costs={**record.costs, "train": replace(train, **more)})

    result, measured = command(records(old), here)
    assert result.exit_code == status and "measuring both sides again" in result.stdout
    assert measured == [(True, "new"), (False, "old"), (True, "new")]


def test_a_changed_answer_fails_beside_the_baseline_and_warns_against_its_committed_numbers(command, repository):
    _, old, _ = repository

    def here(commit):
        return records(commit) if commit == old else [answered_otherwise(r) for r in records(commit)]

    def answered_otherwise(record):
        (task, score), *_ = record.scores.items()
        outcomes = (1.0 - score.outcomes[0], *score.outcomes[1:])
        other = replace(score, outcomes=outcomes, value=sum(outcomes) / len(outcomes))
        return replace(record, scores={**record.scores, task: other})

    result, _ = command(records(old), here)
    assert result.exit_code == 0 and "warning" in result.stdout and "answers" in result.stdout
    result, _ = command(records(old), here, "--beside")
    assert result.exit_code == 1 and "declare it by a new baseline" in result.stdout


def test_a_regression_is_found_on_either_machine(command, repository):
    _, old, new = repository
    for env in ({}, {"cpu_model": "Other CPU"}):

        def here(commit, env=env):
            found = records(commit, **env)
            if commit == new:
                found = [replace(r, parameters=replace(r.parameters, trainable=5)) for r in found]
            return found

        result, _ = command(records(old), here)
        assert result.exit_code == 1 and "trainable parameters" in result.stdout


def test_what_differs_on_one_and_the_same_machine_is_refused(command, repository):
    """Another version of a library is the same on both sides; other documents are not, and no baseline can help."""
    _, old, _ = repository

    def here(commit):
        found = records(commit)
        return found if commit == old else [replace(r, data={"boolq": {"evaluation_hash": "x"}}) for r in found]

    result, measured = command(records(old), here)
    assert result.exit_code == 2 and len(measured) == 2 and "boolq documents differs" in result.stderr


def test_a_commit_that_is_not_here_is_named(command, tmp_path):
    result, _ = command(records("f" * 40), lambda commit: records(commit, cpu_model="Other CPU"))
    assert result.exit_code == 2 and "is the whole history here?" in result.stderr


def test_records_of_another_commit_are_not_taken_for_this_one(command, repository, tmp_path):
    _, old, _ = repository
    for record in records(old):
        Store(tmp_path / "stale").save(record)
    result, measured = command(records(old), records, "--new", str(tmp_path / "stale"))
    assert result.exit_code == 2 and "is of another commit" in result.stderr and measured == []


def test_a_new_baseline_takes_the_place_of_the_old_one(command, repository, tmp_path):
    _, old, new = repository
    gone = make_run(("molora",), layers=2)
    (tmp_path / "baseline").mkdir()
    (tmp_path / "baseline" / "notes.json").write_text("mine")
    result, _ = command([*records(old), *gone], records, "--update")
    kept = Store(tmp_path / "baseline").all()
    assert (tmp_path / "baseline" / "notes.json").read_text() == "mine"
    assert result.exit_code == 0 and [r.spec.method for r in kept] == list(METHODS)
    assert gate.baseline_commit(kept) == new


@pytest.mark.parametrize(
    ("here", "said"),
    [
        (lambda commit: records(commit, git_dirty=True), "uncommitted"),
        (lambda commit: [make_failed("lora", error="it broke")], "it broke"),
    ],
)
def test_a_baseline_is_neither_dirty_nor_failed(command, repository, tmp_path, here, said):
    _, old, _ = repository
    result, _ = command(records(old), here, "--update")
    assert result.exit_code == 2 and said in result.stderr
    assert gate.baseline_commit(Store(tmp_path / "baseline").all()) == old


def test_a_baseline_of_two_commits_is_refused(command, repository):
    _, old, new = repository
    mixed = [records(old)[0], records(new)[1]]
    result, _ = command(mixed, lambda commit: records(commit, cpu_model="Other CPU"))
    assert result.exit_code == 2 and "is not of one commit" in result.stderr
