"""Jobs side by side: the same answers as one after the other, marked as such, and stopped together."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from synthetic_records import make_failed, make_record, make_spec

from benchmarks.jobs.executors import ROOT
from benchmarks.jobs.watch import many
from benchmarks.jobs.watch.many import Beside, side_by_side
from results.store import Store

TINY = ["--model", "tiny", "--dtype", "float32", "--device", "cpu", "--train-documents", "16", "--limit", "2"]
RUN = [sys.executable, "-m", "benchmarks.run", *TINY, "--no-report", "--methods", "lora", "--seeds", "0,1",
       "--data-seed", "0"]  # fmt: skip
ALONE = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
SPECS = [make_spec(seed=seed) for seed in range(6)]


def events(folder, key):
    return [json.loads(line) for line in (folder / "logs" / f"{key}.jsonl").read_text().splitlines()]


def test_jobs_side_by_side_answer_as_they_do_one_after_the_other(tmp_path):
    for count in ("1", "2"):
        subprocess.run([*RUN, "--jobs", count, "--out", str(tmp_path / count)], cwd=ROOT, env=ALONE, check=True)
    alone, beside = ({r.spec.key: r for r in Store(tmp_path / count).all()} for count in "12")
    assert alone.keys() == beside.keys() and len(alone) == 2
    for key, record in alone.items():
        assert beside[key].losses == record.losses and beside[key].scores == record.scores
        assert beside[key].environment["shared_machine"] is True and beside[key].environment["threads"] == 1
    (a, b), (c, d) = ((of[0]["time"], of[-1]["time"]) for of in (events(tmp_path / "2", key) for key in beside))
    assert a < d and c < b  # at once


def test_at_most_so_many_run_at_once_each_in_a_place_of_its_own():
    running, most, lock = set(), [], threading.Lock()

    def job(spec, beside):
        with lock:
            assert beside.place not in running
            running.add(beside.place)
            most.append(len(running))
        time.sleep(0.02)
        with lock:
            running.remove(beside.place)
        return make_record(seed=spec.seed, layers=1)

    found = list(side_by_side(SPECS, job, 3))
    assert sorted(spec.seed for spec, _ in found) == [0, 1, 2, 3, 4, 5] and max(most) == 3


@pytest.mark.parametrize("error", ["OutOfMemoryError: CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED when calling"])
def test_a_job_for_which_the_device_was_too_full_is_tried_once_more_alone(error):
    tried = []

    def job(spec, beside):
        tried.append((spec.seed, beside.count))
        return (
            replace(make_failed("lora", seed=spec.seed), error=error) if spec.seed == 1 else make_record(seed=spec.seed)
        )

    found = {spec.seed: record.status for spec, record in side_by_side(SPECS[:3], job, 2)}
    assert found == {0: "done", 1: "failed", 2: "done"}
    assert tried.count((1, 2)) == 1 and tried[-1] == (1, 1) and len(tried) == 4


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_in_one_stops_the_others(count):
    stopped = []

    def job(spec, beside):
        if spec.seed == 0:
            raise OSError("the disk is full")
        try:
            while True:
                beside.check()
                time.sleep(0.01)
        except many.Stopped:
            stopped.append(spec.seed)
            raise

    with pytest.raises(OSError, match="the disk is full"):
        list(side_by_side(SPECS[:3], job, count))
    assert set(stopped) <= {1, 2} and (count == 1 or threading.active_count() < 20)


def test_cpus_are_shared_out_and_devices_given_in_turn(monkeypatch):
    monkeypatch.delenv(many.THREADS, raising=False)
    monkeypatch.delenv(many.DEVICES, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    told = [Beside(place, 3).environment() for place in range(3)]
    assert [t[many.THREADS] for t in told] == ["5"] * 3 and [t[many.DEVICES] for t in told] == ["0", "1", "0"]
    monkeypatch.setenv(many.DEVICES, "3,5")
    monkeypatch.setenv(many.THREADS, "2")
    assert Beside(1, 2).environment() == {many.DEVICES: "5"}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.delenv(many.DEVICES)
    assert Beside(1, 2).environment() == {} and Beside().environment() == {}


def test_a_run_that_is_stopped_leaves_none_of_its_jobs_behind(tmp_path):
    run = subprocess.Popen([*RUN, "--epochs", "500", "--jobs", "2", "--out", str(tmp_path)], cwd=ROOT, env=ALONE)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and len(children(tmp_path)) < 2:
            time.sleep(0.2)
        assert len(children(tmp_path)) == 2
        run.send_signal(signal.SIGTERM)
        assert run.wait(30) == 143
        assert children(tmp_path) == []
    finally:
        run.kill()


def children(folder):
    """Process ids of jobs that write into the folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (place / "cmdline").read_bytes().decode(errors="replace")
            if "benchmarks.jobs.child" in command and str(folder) in command:
                found.append(place.name)
    return found
