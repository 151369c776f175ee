"""Kills survived, inputs tried, repeats equal: `python tests/reliability.py` counts them.

It runs the tests that count (the fixture `counted`), slow ones included, keeps the counts in
results/scratch/reliability.json and prints them as a table. Half an hour on two cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "results" / "scratch" / "reliability.json"
FILES = (
    "tests/benchmarks/jobs/test_crashes.py",
    "tests/benchmarks/jobs/test_determinism.py",
    "tests/benchmarks/gate/test_gate_catches.py",
    "tests/hard/test_bad_input.py",
)
ENVIRONMENT = ("git_commit", "git_dirty", "python", "platform", "versions", "timestamp")


def counts(report: Path) -> dict[str, list[int]]:
    """Sum [tried, held] of every text over the tests of a JUnit file. Raises ValueError where a test did not pass."""
    found: dict[str, list[int]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        if (bad := case.find("failure")) is not None or (bad := case.find("error")) is not None:
            raise ValueError(f"{case.get('classname')}.{case.get('name')}: {bad.get('message')}")
        for entry in case.iter("property"):
            if entry.get("name") == "counted":
                what, tried, held = json.loads(entry.get("value", ""))
                total = found.setdefault(what, [0, 0])
                total[0] += tried
                total[1] += held
    return found


def table(body: Mapping[str, Any]) -> str:
    """Return the table in Markdown of what `reliability.json` holds."""
    about = body["environment"]
    torch, python = about["versions"]["torch"], about["python"]
    lines = ["| tried | times | held |", "| :--- | ---: | ---: |"]
    lines += [f"| {what} | {tried:,} | {held:,} |" for what, (tried, held) in body["counts"].items()]
    made = f"Counted {about['timestamp'][:10]} at commit {about['git_commit'][:7]}, Python {python}, torch {torch}."
    return "\n".join([*lines, "", made]) + "\n"


def main() -> int:
    from results.environment import environment
    from results.files import write_whole

    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", "-m", "slow or not slow", "-n", "2", "--dist", "loadfile"]
        status = subprocess.run([*command, f"--junit-xml={report}", *FILES], cwd=ROOT).returncode
        if not report.exists():
            return status
        try:
            found = counts(report)
        except ValueError as error:
            print(f"error: nothing is kept, for a test did not pass: {error}", file=sys.stderr)
            return 1
    about = environment()
    body = {"environment": {name: about[name] for name in ENVIRONMENT}, "counts": found}
    write_whole(KEPT, json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    print(f"{table(body)}\n{KEPT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    raise SystemExit(main())
