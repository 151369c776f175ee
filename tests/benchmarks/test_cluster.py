"""A plan is run job by job, as an array of Slurm would, and the stores are merged into what one run gives."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_records import make_failed, make_record

from results.store import Store

ROOT = Path(__file__).resolve().parents[2]
ASKED = "--model tiny --suite commonsense --methods frozen,lora:r=2 --train-documents 16 --limit 2 --dtype float32"
STAND_IN = """#!/bin/bash
# sbatch --array=FIRST-LAST SCRIPT, one task after another
range=${1#--array=}
for task in $(seq "${range%-*}" "${range#*-}"); do SLURM_ARRAY_TASK_ID=$task bash "$2"; done
"""


def run(*command, cwd=ROOT, **env):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, **env}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=env)


def merge(*folders, to):
    return run(sys.executable, "-m", "results", "merge", *map(str, folders), "--to", str(to))


@pytest.mark.slow
def test_the_array_script_of_the_readme_runs_every_job_of_a_plan_once(tmp_path):
    text = (ROOT / "benchmarks" / "README.md").read_text()
    script = text.split("<!-- slurm:begin -->")[1].split("```sh\n")[1].split("```")[0]
    (tmp_path / "array.sh").write_text(script)
    (tmp_path / "sbatch").write_text(STAND_IN)
    planned = run(sys.executable, "-m", "benchmarks.run", *ASKED.split(), "--dry-run", cwd=tmp_path)
    (tmp_path / "plan.json").write_text(planned.stdout)
    keys = {job["key"] for job in json.loads(planned.stdout)}
    assert len(keys) == 2
    done = run("bash", "sbatch", "--array=0-1", "array.sh", cwd=tmp_path, ASKED=ASKED)
    assert done.returncode == 0, done.stderr
    stores = sorted((tmp_path / "stores").iterdir())
    assert [len(Store(s).all()) for s in stores] == [1, 1]
    assert merge(*stores, to=tmp_path / "all").returncode == 0
    merged = Store(tmp_path / "all").all()
    assert {record.key for record in merged} == keys and {record.status for record in merged} == {"done"}


def test_a_key_that_is_not_in_the_plan_is_refused_with_the_nearest(tmp_path):
    command = [sys.executable, "-m", "benchmarks.run", *ASKED.split(), "--out", str(tmp_path), "--only"]
    done = run(*command, "commonsense--tiny--frozen--s0--00000000")
    assert done.returncode == 2 and "did you mean commonsense--tiny--frozen--s0--" in done.stderr


@pytest.fixture
def stores(tmp_path):
    made = [Store(tmp_path / name) for name in "ab"]
    made[0].save(make_record("lora", layers=1))
    made[1].save(make_record("dora", layers=1))
    return made


def test_stores_merge_and_what_is_finished_goes_before_what_failed(stores, tmp_path):
    first, second = stores
    first.save(make_failed("dora"))
    second.save(make_record("lora", layers=1))  # the same measurement
    for _ in range(2):
        done = merge(first.folder, second.folder, to=tmp_path / "all")
        assert done.returncode == 0 and "2 records of 2 folders" in done.stdout, done.stderr
    assert "0 of them written now" in done.stdout
    assert [(r.spec.method, r.status) for r in Store(tmp_path / "all").all()] == [("dora", "done"), ("lora", "done")]


def test_different_measurements_of_one_key_are_named_and_nothing_is_written(stores, tmp_path):
    first, second = stores
    (record,) = first.all()
    other = dataclasses.replace(record, losses=tuple(loss + 1 for loss in record.losses))
    second.save(other)
    done = merge(first.folder, second.folder, to=tmp_path / "all")
    assert done.returncode == 2 and other.key in done.stderr and str(second.folder) in done.stderr
    assert not (tmp_path / "all").exists() and "Traceback" not in done.stderr


def test_an_unreadable_file_or_an_empty_folder_stops_a_merge(stores, tmp_path):
    broken = next(stores[0].folder.glob("*.json"))
    broken.write_text("{")
    (tmp_path / "none").mkdir()
    done = merge(stores[0].folder, tmp_path / "none", to=tmp_path / "all")
    assert done.returncode == 2 and broken.name in done.stderr and "none: no record there" in done.stderr
