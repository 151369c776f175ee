"""Commands under their old names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEW = {
    "benchmarks.assets": "benchmarks.offline.assets",
    "benchmarks.cost": "benchmarks.studies.cost",
    "benchmarks.stability": "benchmarks.studies.stability",
    "benchmarks.gpu_pass": "benchmarks.offline.gpu_pass",
    "benchmarks.speed.repeats": "benchmarks.studies.repeats",
    "benchmarks.speed.shapes": "benchmarks.studies.shapes",
}


def python(*arguments):
    return subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("old", NEW)
def test_an_old_name_warns_with_the_new_one_and_answers_as_it_does(old):
    done = python(old, "--help")
    assert done.returncode == 0 and f"python -m {NEW[old]}" in done.stdout
    assert done.stderr.startswith(f"warning: python -m {old} is now python -m {NEW[old]};")


def test_an_old_name_keeps_the_exit_status():
    assert python("benchmarks.assets", "verify", "--bundle", "no-such-folder").returncode == 1


def test_every_command_that_was_renamed_is_tried():
    folder = ROOT / "benchmarks" / "renamed"
    files = {f.relative_to(folder).with_suffix("") for f in folder.rglob("*.py") if f.stem != "__init__"}
    assert {".".join(("benchmarks", *f.parts)) for f in files} == NEW.keys()
