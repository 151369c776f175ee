"""The real clients against a hub on the loopback address: the checks of hub_checks.py, in one process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as Tree
from pathlib import Path

import pytest

CHECKS = Path(__file__).parent / "hub_checks.py"
CODE = "import sys, hub_server; sys.exit(hub_server.run_tests(*sys.argv[1:]))"


def run(place, *options):
    """Name of each check -> what pytest said of its failure, "" where it passed."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTEST_"))}
    variables = known | {"HF_HOME": str(place / "home"), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    chosen = ["-q", "-p", "no:cacheprovider", "-p", "no:cov", "--tb=short", f"--junitxml={place}/told.xml", *options]
    ran = subprocess.run(
        [sys.executable, "-c", CODE, *chosen, str(CHECKS)], env=variables, cwd=CHECKS.parents[3], capture_output=True,
        text=True, timeout=600,
    )  # fmt: skip
    assert ran.returncode in (0, 1), ran.stdout[-3000:] + ran.stderr[-3000:]
    cases = [*Tree.parse(place / "told.xml").iter("testcase")]
    said = [[child for child in case if child.tag in ("failure", "error", "skipped")] for case in cases]
    return {
        case.get("name"): "".join(child.text or child.tag for child in children)
        for case, children in zip(cases, said, strict=True)
    }


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    return run(tmp_path_factory.mktemp("hub"))


TOPICS = {
    "suites load what the same local folder holds": ("same_local_folder[", 2),
    "a run measures what a run from the local folder measures": ("_run_from_the_local_", 1),
    "commits are pinned, on the hub and in the cache": ("pinned", 4),
    "what the hub refuses is told with what to do": ("gated|missing|cannot_be_had|script", 8),
    "faults are tried again, and told when they stay": ("fault|fails_for_a_while", 12),
    "layouts of files are read": ("parquet", 1),
}


@pytest.mark.parametrize("topic", TOPICS)
def test_against_real_clients(outcomes, topic):
    words, count = TOPICS[topic]
    chosen = {name: said for name, said in outcomes.items() if any(word in name for word in words.split("|"))}
    assert {name: said for name, said in chosen.items() if said} == {}
    assert len(chosen) >= count


def test_no_check_is_left_out(outcomes):
    words = [word for topic, _ in TOPICS.values() for word in topic.split("|")]
    assert {name for name in outcomes if not any(word in name for word in words)} == set()


@pytest.mark.slow
def test_the_larger_suites_and_models_load_from_the_hub_as_from_a_folder(tmp_path):
    suites = ("commonsense", "knowledge", "mixed")
    assert run(tmp_path, "-m", "slow") == dict.fromkeys(
        [
            *(f"test_a_suite_has_the_documents_of_the_same_local_folder[{name}]" for name in suites),
            "test_a_model_of_the_hub_is_its_commit_and_computes_what_its_folder_computes",
            "test_a_model_is_read_from_the_cache_when_the_hub_is_gone",
        ],
        "",
    )
