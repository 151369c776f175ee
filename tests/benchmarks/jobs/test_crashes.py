"""Sweeps killed at seeded random moments go on to a whole store; two over one folder share the work; disks fill up."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import crash_sweep
import psutil
import pytest

from benchmarks.jobs.watch import leftovers
from results.store import Store, record_files

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "tests" / "crash_sweep.py"
PATIENCE = 120.0  # seconds
REAL = 30  # kills


def sweep(folder, jobs, **options):
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), str(jobs)], cwd=ROOT, env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def kill(parent, who):
    """Send SIGKILL to the parent, its child or both; what the two had started is returned."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(parent.pid)
        children = process.children(recursive=True)
        for victim in {"parent": [process], "child": children, "both": [*children, process]}[who]:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        return children
    return []


def wait_for_a_job(parent):
    """Return when the sweep has a child or has ended."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and parent.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(parent.pid).children():
                return
        time.sleep(0.02)


def done_records(folder):
    """Bytes of each finished record, which no later run may change."""
    store = Store(folder)
    return {f: f.read_bytes() for f in record_files(folder) if (r := store.load(f.stem)) and r.status == "done"}


def killed(start, folder, kills, seed, latest):
    """Run until it has been killed so many times. Returns the kills after which every finished record still stood."""
    rng = random.Random(seed)
    survived, before, met = 0, {}, 0
    for number in range(kills):
        parent = start(number)
        if number % 4:  # every fourth may be met while it starts
            wait_for_a_job(parent)
        time.sleep(rng.uniform(0.05, latest))
        who = rng.choice(["parent", "child", "both"])
        children = kill(parent, who)
        met += bool(children)
        if who == "child" and rng.random() < 0.5:  # the sweep goes on, then dies too
            time.sleep(rng.uniform(0, latest / 2))
        children += kill(parent, "parent")
        parent.communicate(timeout=PATIENCE)
        _, orphans = psutil.wait_procs(children, PATIENCE)
        assert not orphans
        after = done_records(folder)
        assert {path: after.get(path) for path in before} == before  # nothing lost, nothing run twice to its end
        survived, before = survived + 1, after
    assert met >= kills // 3  # jobs were under way
    return survived


def whole(folder, keys):
    """Nothing but whole records: no part, no spec, no lock that is held, none set aside."""
    store = Store(folder)
    assert {r.key for r in store.all() if r.status == "done"} == set(keys) and not store.unreadable
    assert not list(folder.rglob("*.part")) + list(folder.rglob("*.spec.json")) + list(folder.glob("*.broken*"))
    for key in keys:
        with leftovers.claim(folder, key) as held:
            assert held


@pytest.mark.parametrize("kills", [6, pytest.param(30, marks=pytest.mark.slow)])
def test_a_sweep_survives_kills_of_parent_child_or_both(tmp_path, kills, counted):
    keys = [spec.key for spec in crash_sweep.specs(200)]
    survived = killed(lambda number: sweep(tmp_path, len(keys)), tmp_path, kills, seed=28, latest=2.0)
    left = sweep(tmp_path, 12)
    printed, errors = left.communicate(timeout=PATIENCE)
    assert left.returncode == 0, errors
    assert printed.count(" done") == 12 and survived == kills
    done = {file.stem for file in done_records(tmp_path)}
    assert set(keys[:12]) <= done <= set(keys)
    leftovers.clean(tmp_path)
    whole(tmp_path, done)
    counted("SIGKILL of a sweep of short stand-ins for jobs (the run, its job or both), gone on with", kills, survived)


def test_two_sweeps_over_one_folder_share_the_work(tmp_path):
    keys = [spec.key for spec in crash_sweep.specs(16)]
    both = [sweep(tmp_path, len(keys)) for _ in range(2)]
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert all(output.count(" done") == len(keys) for output in outputs)
    whole(tmp_path, keys)
    stamps = [record.environment["timestamp"].split("-")[0] for record in Store(tmp_path).all()]
    assert len(set(stamps)) == len(keys)  # a process each, so no job ran twice


def test_a_disk_that_is_full_fails_the_job_and_the_next_run_finishes_it(tmp_path):
    """A limit on the size of files stands for the disk: writing a record fails in the middle."""
    limited = sweep(tmp_path, 2, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)))
    printed, errors = limited.communicate(timeout=PATIENCE)
    assert printed.count(" failed") == 2, errors
    again = sweep(tmp_path, 2)
    assert again.communicate(timeout=PATIENCE)[0].count(" done") == 2
    whole(tmp_path, [spec.key for spec in crash_sweep.specs(2)])


def run(folder):
    options = "--model tiny --train-documents 16 --limit 1 --dtype float32 --device cpu --data-seed 0"
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.run", *options.split(), "--methods", "frozen,lora,molora", "--out", folder],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.slow
def test_a_run_of_real_jobs_survives_thirty_kills(tmp_path, counted):
    folders = [tmp_path / str(n) for n in range(3)]
    for seed, folder in enumerate(folders):
        folder.mkdir()
        assert killed(lambda number, f=folder: run(f), folder, REAL // 3, seed=seed, latest=30.0) == REAL // 3
        last = run(folder)
        assert last.wait(600) == 0
        done = {file.stem for file in done_records(folder)}
        assert len(done) == 3
        whole(folder, done)
    counted("SIGKILL of a run that trains and evaluates (the run, its job or both), gone on with", REAL, REAL)
