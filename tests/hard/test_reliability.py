"""The table of what was survived: counted from tests that passed, and shown as it was counted."""

from __future__ import annotations

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
    pass
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


def test_the_table_says_what_was_tried_how_often_and_where():
    about = {"git_commit": "a" * 40, "python": "3.11.7", "versions": {"torch": "2.13.0"}, "timestamp": "2026-01-02T03"}
    shown = reliability.table({"environment": about, "counts": {"kills": [3000, 2999]}})
    assert "| kills | 3,000 | 2,999 |" in shown
    assert "2026-01-02 at commit aaaaaaa, Python 3.11.7, torch 2.13.0" in shown
