"""The table of what was survived: counted from tests that passed, and shown as it was counted."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import reliability

COUNTING = """
import pytest

@pytest.mark.parametrize("number", [1, 2])
def test_counts(counted, number):
    counted("kills", 10, number)
    assert {holds}

def test_counts_nothing():
    assert True
"""


def ran(folder, holds):
    """The JUnit file of two tests that count, made by pytest with this repository's fixture."""
    (folder / "conftest.py").write_text((reliability.ROOT / "tests" / "conftest.py").read_text())
    (folder / "test_them.py").write_text(COUNTING.format(holds=holds))
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "tests").mkdir()
    (folder / "test_them.py").rename(folder / "tests" / "test_them.py")
    command = [sys.executable, "-m", "pytest", "-q", f"--junit-xml={folder / 'junit.xml'}", "-p", "no:cacheprovider"]
    subprocess.run([*command, "tests"], cwd=folder, capture_output=True)
    return folder / "junit.xml"


def test_counts_are_summed_over_tests_that_passed(tmp_path):
    assert reliability.counts(ran(tmp_path, "True")) == {"kills": [20, 3]}


def test_a_test_that_failed_leaves_no_table(tmp_path):
    with pytest.raises(ValueError, match=r"test_counts\[2\]"):
        reliability.counts(ran(tmp_path, "number == 1"))


def test_the_manual_shows_what_was_counted():
    body = json.loads(reliability.KEPT.read_text(encoding="utf-8"))
    shown = reliability.block(reliability.README.read_text(encoding="utf-8"))
    assert shown == reliability.table(body), "run: python tests/reliability.py"
    assert body["environment"]["git_dirty"] is False
    assert all(0 < held == tried for tried, held in body["counts"].values())
    kills = sum(tried for what, (tried, _) in body["counts"].items() if "SIGKILL of a run" in what)
    assert kills >= 30 and sum(tried for tried, _ in body["counts"].values()) > 20_000
