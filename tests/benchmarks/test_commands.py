"""`python -m benchmarks` and `python -m benchmarks.study`: what they list, run and refuse."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from benchmarks import study
from benchmarks.__main__ import COMMANDS, EXTRA, WHERE, main

ROOT = Path(__file__).resolve().parents[2]


def python(*arguments):
    return subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_is_a_module_that_can_be_run(name):
    module = f"benchmarks.{WHERE.get(name, name)}"
    spec = importlib.util.find_spec(module)
    assert spec is not None
    if spec.submodule_search_locations:
        assert importlib.util.find_spec(f"{module}.__main__") is not None


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


def test_a_command_whose_extra_is_not_installed_says_how_to_install_it(monkeypatch, capsys):
    def run_module(name, run_name):
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr("runpy.run_module", run_module)
    missing = "lm_eval.api"
    assert main(["run"]) == 2 and "pip install 'smoe-bench[bench]'" in capsys.readouterr().err
    missing = "benchmarks.gone"
    with pytest.raises(ModuleNotFoundError):
        main(["run"])


def test_what_the_extra_brings_is_known_by_the_name_of_its_import():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = {re.split("[>=<]", name)[0] for name in extras["dependencies"]}
    extra = [*extras["optional-dependencies"]["bench"], *extras["optional-dependencies"]["report"]]
    brought = {re.split("[>=<]", name)[0] for name in extra}
    wanted = {name.lower().replace("-", "_").replace("pyyaml", "yaml") for name in brought - core if "[" not in name}
    assert set(EXTRA) == wanted
