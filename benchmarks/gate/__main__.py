"""The gate in CI: `python -m benchmarks.gate` runs small main jobs and compares them with the committed baseline.

On a machine whose fingerprint differs from the baseline's, the baseline's commit is checked out beside this one (a git
worktree), measured with the same interpreter in the same session, and compared instead: another processor is no reason
to fail, nor to pass blindly. `--beside` does so always, since processors of one name may differ in the last bits; then
any changed answer is a regression, while against the committed numbers it is a warning. Exit status as that of
`python -m benchmarks.compare`. A job is measured once, so a phase that takes more time or memory has to do so in a
second session, too.

`--update` measures a new baseline, which declares that answers were meant to change; commit what it writes. It wants a
clean checkout, whose commit is then the one that other machines check out, so that commit has to stay in the history.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.gate.checks import compare
from benchmarks.gate.findings import Finding, Limits
from benchmarks.gate.pairs import IncomparableError, load
from benchmarks.gate.render import JUnit, Markdown, refuse, report
from results import Record
from results.environment import git_state
from results.private import ROOT
from results.spec import RecordError
from results.store import StoreError, publish, record_files

BASELINE = ROOT / "results" / "records" / "baseline"
SIZE = ("--suite", "commonsense", "--train-documents", "32", "--limit", "2", "--malloc", "mapped")
RUNS = (SIZE, (*SIZE, "--protocol", "generative", "--model", "tiny", "--methods", "frozen,lora,lora-smoe"))

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    new: Annotated[
        Path | None, typer.Option(help="Records of this checkout's runs, as `gate.RUNS` has them. [measured now]")
    ] = None,
    baseline: Annotated[Path, typer.Option(help="Folder.", show_default="results/records/baseline")] = BASELINE,
    beside: Annotated[bool, typer.Option("--beside", help="Measure the baseline's commit here in any case.")] = False,
    update: Annotated[bool, typer.Option("--update", help="Measure a new baseline.")] = False,
    markdown: Markdown = None,
    junit: JUnit = None,
) -> None:
    """Compare this checkout with the baseline."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            if update:
                return replace_baseline(baseline, measured(ROOT, Path(folder)))
            base = load(baseline)
            ours = load(new) if new else measured(ROOT, Path(folder) / "new")
            require_this_checkout(ours)
            try:
                if beside:
                    raise IncomparableError("the baseline is to be measured in the same session")
                findings = compare(base, ours, Limits(declared=True))
            except IncomparableError as error:
                commit = baseline_commit(base)
                print(f"{error}.\nMeasuring the baseline's commit {commit[:12]} beside this one ...", flush=True)
                with worktree(commit) as root:
                    findings = compare(measured(root, Path(folder) / "base"), ours, Limits())
            if any(map(is_costlier, findings)):
                print("A phase costs more. Each job was measured once: measuring both sides again ...", flush=True)
                with worktree(baseline_commit(base)) as root:
                    theirs = measured(root, Path(folder) / "base-again")
                again = compare(theirs, measured(ROOT, Path(folder) / "new-again"), Limits())
                findings = confirmed(findings, again)
        except (ValueError, OSError, subprocess.CalledProcessError) as error:
            refuse(str(error), junit, markdown)
    raise typer.Exit(report(findings, junit, markdown))


def is_costlier(finding: Finding) -> bool:
    """Tell whether the finding is a phase that takes more time or memory."""
    return finding.check.startswith(("time ", "memory ")) and finding.status == "regression"


def confirmed(findings: Sequence[Finding], again: Sequence[Finding]) -> list[Finding]:
    """Return the findings, a costlier phase as a regression only where the second session found it costlier, too."""
    costlier = {(f.row, f.check) for f in again if is_costlier(f)}
    return [
        replace(f, status="warning", detail="; ".join(filter(None, (f.detail, "not in a second session"))))
        if is_costlier(f) and (f.row, f.check) not in costlier
        else f
        for f in findings
    ]


def measured(root: Path, out: Path, runs: Sequence[Sequence[str]] = RUNS) -> list[Record]:
    """Run the CI-sized jobs by the code at `root`; return the records. Raises ValueError when it refuses a request."""
    for options in runs:
        command = [sys.executable, "-m", "benchmarks.run", *options, "--out", str(out)]
        status = subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}).returncode
        if status not in (0, 1):  # 1: some job failed, which its record says
            raise ValueError(f"benchmarks.run in {root.name} ended with exit status {status}")
    return load(out)


def require_this_checkout(records: Sequence[Record]) -> None:
    """Raise RecordError for records of another commit: a job that has a record is never run again."""
    commit, _ = git_state(ROOT)
    for record in records:
        if record.environment and record.environment.get("git_commit") != commit:
            raise RecordError(f"{record.key} is of another commit; empty its folder and run again")


def baseline_commit(records: Sequence[Record]) -> str:
    """Name the one commit that the baseline was measured at. Raises RecordError when there is none."""
    commits = {r.environment.get("git_commit") for r in records}
    (commit, *others) = commits
    if others or not commit:
        raise RecordError(f"the baseline is not of one commit, but of {', '.join(map(str, commits))}")
    return commit


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """Check out `commit` in a folder of its own. Raises ValueError where the commit is not to be had."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "baseline"
        git = ["git", "-C", str(ROOT), "worktree"]
        done = subprocess.run([*git, "add", "--detach", str(root), commit], capture_output=True, text=True)
        if done.returncode:
            raise ValueError(
                f"cannot check out the baseline's commit; is the whole history here? {done.stderr.strip()}"
            )
        try:
            yield root
        finally:
            subprocess.run([*git, "remove", "--force", str(root)], capture_output=True, check=True)


def replace_baseline(folder: Path, records: Sequence[Record]) -> None:
    """Put `records` in the place of what was there. Raises StoreError for a failed job or uncommitted code."""
    for record in records:
        if record.status != "done":
            raise StoreError(f"{record.key} failed: {record.error}")
    kept = {publish(record, folder) for record in records}
    for old in set(record_files(folder)) - kept:
        old.unlink()
    print(f"{len(kept)} records in {folder}")


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.gate")
