"""`python -m benchmarks` and `python -m benchmarks.study`: what they list, run and refuse."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import study
from benchmarks.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[2]


def python(*arguments):
    return subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_is_a_module_that_can_be_run(name):
    spec = importlib.util.find_spec(f"benchmarks.{name}")
    assert spec is not None
    if spec.submodule_search_locations:
        assert importlib.util.find_spec(f"benchmarks.{name}.__main__") is not None


def test_without_a_command_all_are_listed():
    listed = python("benchmarks")
    assert listed.returncode == 0 and all(f"  {name} " in listed.stdout for name in COMMANDS)


def test_a_command_runs_by_its_name_with_its_own_exit_status():
    assert python("benchmarks", "compare", "absent", "absent").returncode == 2
    assert "usage" in python("benchmarks", "study").stdout.lower() or "NAME" in python("benchmarks", "study").stdout


@pytest.mark.parametrize(
    ("module", "name", "near"), [("benchmarks", "rum", "run"), ("benchmarks.study", "stabilty", "stability")]
)
def test_an_unknown_name_is_refused_with_the_nearest(module, name, near):
    refused = python(module, name)
    assert refused.returncode == 2 and f"did you mean {near}" in refused.stderr


def test_every_study_says_what_it_answers_and_answers_help():
    listed = study.studies()
    assert {"cost", "repeats", "shapes", "stability"} <= listed.keys() and all(listed.values())
    helped = python("benchmarks.study", "repeats", "--help")
    assert helped.returncode == 0 and "python -m benchmarks.study repeats" in helped.stdout
