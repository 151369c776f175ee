"""`python -m benchmarks.offline.gpu_pass --out DIR`: what a GPU node that is there for minutes can tell.

Steps run one after the other, each in processes of its own with a time limit. A step that fails, runs out of memory or
out of time is recorded and the next one starts. The same command goes on where it stopped, also on another node that
was given what lay at the top of DIR: a JSON file for each step, `records.tar.xz` and `summary.md`. What lies in `work`
below it (logs, the records themselves) may be lost. `--rehearse` runs all of it on the CPU with toy sizes, so that
nothing is tried for the first time on the card. Exit status: 0 all done, 1 some step was not, 2 bad request.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.jobs.executors import ROOT, interruptible, stop
from benchmarks.offline.gpu_summary import summary
from results.names import unknown
from results.private import private_command

REHEARSAL = "SMOE_REHEARSE"  # set for tests marked gpu, which then run on the CPU
RECORDS = "records.tar.xz"
LEAST_SECONDS = 20.0  # less than this is not worth starting a step for
TAIL = 30  # lines of output that a step's file keeps
MAIN = "lora,lora-smoe,molora,adalora"  # with frozen, the main five
CONTROLS = "random-experts,inverse-experts"
CARD = "import torch; print(torch.cuda.get_device_name(), torch.__version__, torch.version.cuda)"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, kw_only=True)
class Step:
    """Commands that run one after the other, each of which goes on where it stopped."""

    name: str
    what: str
    commands: Sequence[Sequence[str]]  # arguments of `python -m`
    results: str | None = None  # JSON file under work/ that they leave
    expected: float  # minutes, on one H100: reckoned from shapes, not measured
    limit: float  # minutes


def steps(work: Path, rehearse: bool) -> list[Step]:
    """Return what is run, in this order."""
    records, speed, shapes = str(work / "records"), str(work / "speed"), str(work / "shapes.json")
    run = ["benchmarks.run", "--suite", "commonsense", "--out", records]
    every = f"frozen,{MAIN},{CONTROLS}"
    if rehearse:
        on = ["--model", "tiny", "--dtype", "float32", "--device", "cpu"]
        sizes = ["--width", "32", "--tokens", "16", "--effort", "0.05"]
        runs = [[*run, *on, "--methods", every, "--train-documents", "32", "--limit", "1"]]
    else:
        on, sizes = ["--device", "cuda"], []
        # Seed by seed, so that every method has one when time is up; frozen has none to vary. Evaluation is the same in
        # every job, batch size included, since scores in bfloat16 move with it.
        full = [*run, *on, "--profile", "full", "--evaluation-batch-size", "64"]
        trained = f"{MAIN},{CONTROLS}"
        seeds = [[*full, "--methods", every if seed == "0" else trained, "--seeds", seed] for seed in ("0", "1", "2")]
        runs = [*seeds, [*full, "--methods", every]]
    return [
        Step(
            name="tests",
            what="tests that need the card",
            commands=[["pytest", "-m", "gpu", "--no-header", "--continue-on-collection-errors", "tests"]],
            expected=0.5 if rehearse else 2,
            limit=6,
        ),
        Step(
            name="speed",
            what="layer, training step and sensitivity pass beside what they compete with, as ratios",
            commands=[["benchmarks.speed", *on, *sizes, "--out", speed]],
            results="speed/speed.json",
            expected=0.5 if rehearse else 5,
            limit=12,
        ),
        Step(
            name="shapes",
            what="time and peak memory of every adapter method at 3B, 8B and 7B, random weights",
            commands=[["benchmarks.studies.shapes", "--out", shapes, *(["--rehearse"] if rehearse else [])]],
            results="shapes.json",
            expected=0.5 if rehearse else 15,
            limit=30,
        ),
        Step(
            name="commonsense",
            what="the main five methods and the controls on all the data, three seeds",
            commands=runs,
            expected=1 if rehearse else 75,
            limit=150,
        ),
    ]


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="Folder of the results; the same one goes on where it stopped.")],
    only: Annotated[str | None, typer.Option(help="Some of the steps, with commas. [all]")] = None,
    budget_minutes: Annotated[float | None, typer.Option(help="Of all steps together. [their own limits]")] = None,
    rehearse: Annotated[bool, typer.Option("--rehearse", help="On the CPU, with toy sizes.")] = False,
) -> None:
    """Run what is not done yet, and write a summary."""
    work = out.resolve() / "work"
    all_steps = steps(work, rehearse)
    names = only.split(",") if only is not None else [step.name for step in all_steps]
    try:
        if wrong := [name for name in names if name not in {step.name for step in all_steps}]:
            raise unknown("step", wrong[0], [step.name for step in all_steps])
        if budget_minutes is not None and budget_minutes <= 0:
            raise ValueError(f"budget_minutes {budget_minutes} must be above 0")
        if any((before := recorded(out, step)) and before["rehearsal"] != rehearse for step in all_steps):
            raise ValueError(f"{out} holds {'results of a card' if rehearse else 'a rehearsal'}: choose another folder")
        card = "rehearsal on the CPU, toy sizes" if rehearse else _card()
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    chosen = [step for step in all_steps if step.name in names]
    deadline = time.monotonic() + 60 * budget_minutes if budget_minutes is not None else None
    plan(chosen, out, card, budget_minutes)
    restore(all_steps, out, work)
    try:
        with interruptible():
            for step in chosen:
                if (before := recorded(out, step)) and before["status"] == "done":
                    continue
                left = 60 * step.limit if deadline is None else min(60 * step.limit, deadline - time.monotonic())
                if left < LEAST_SECONDS:
                    typer.echo(f"{step.name}: not started, the budget is spent")
                    continue
                done = run(step, out, work, left, card, rehearse)
                typer.echo(f"{step.name}: {done['status']} after {done['seconds'] / 60:.1f} minutes")
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on")
    finally:
        (out / "summary.md").write_text(
            summary(card, [(s, recorded(out, s)) for s in all_steps], work), encoding="utf-8"
        )
        typer.echo(f"{out / 'summary.md'}")
    raise typer.Exit(0 if all((recorded(out, s) or {}).get("status") == "done" for s in chosen) else 1)


def plan(chosen: Sequence[Step], out: Path, card: str, budget_minutes: float | None) -> None:
    """Say what will be run and how long it should take."""
    typer.echo(card)
    for step in chosen:
        before = recorded(out, step)
        status = f"{before['status']} before" if before else "to do"
        typer.echo(f"  {step.name:12} about {step.expected:g} minutes, at most {step.limit:g}; {status}: {step.what}")
    todo = sum(s.expected for s in chosen if (recorded(out, s) or {}).get("status") != "done")
    budget = "" if budget_minutes is None else f"; budget {budget_minutes:g}"
    typer.echo(f"  together about {todo:g} minutes{budget}")


def recorded(out: Path, step: Step) -> dict[str, Any] | None:
    """Return what an earlier run left of the step."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads((out / f"{step.name}.json").read_text(encoding="utf-8"))
    return None


def restore(all_steps: Sequence[Step], out: Path, work: Path) -> None:
    """Make `work` of what lies at the top of the folder, where it came from another node."""
    work.mkdir(parents=True, exist_ok=True)
    for step in all_steps:
        results = (recorded(out, step) or {}).get("results")  # none where it ended before it had any
        if step.results and results is not None and not (work / step.results).exists():
            (work / step.results).parent.mkdir(parents=True, exist_ok=True)
            (work / step.results).write_text(json.dumps(results), encoding="utf-8")
    if (out / RECORDS).is_file() and not (work / "records").exists():
        (work / "records").mkdir()
        with tarfile.open(out / RECORDS) as archive:
            for entry in archive:
                if file := archive.extractfile(entry):  # by its name alone, whatever path it claims
                    (work / "records" / Path(entry.name).name).write_bytes(file.read())


def run(step: Step, out: Path, work: Path, limit: float, card: str, rehearse: bool) -> dict[str, Any]:
    """Run the step for at most `limit` seconds; writes its file and the records there are, also when interrupted."""
    start = time.monotonic()
    body: dict[str, Any] = {"step": step.name, "status": "interrupted", "card": card, "rehearsal": rehearse}
    body |= {"limit_seconds": round(limit), "commands": []}
    try:
        statuses = []
        for command in step.commands:
            done = _command(command, work / f"{step.name}.log", limit - (time.monotonic() - start), rehearse)
            body["commands"].append(done)
            statuses.append(done["status"])
            _gather(work / "records", out / RECORDS)  # a node may be taken away in the middle of a step
            if done["status"] == "out of time":
                break
        body["status"] = next((s for s in ("out of time", "failed") if s in statuses), "done")
    finally:
        body["seconds"] = round(time.monotonic() - start, 1)
        body["results"] = None
        if step.results and (work / step.results).is_file():
            body["results"] = json.loads((work / step.results).read_text(encoding="utf-8"))
        _gather(work / "records", out / RECORDS)
        (out / f"{step.name}.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    return body


def _command(command: Sequence[str], log: Path, limit: float, rehearse: bool) -> dict[str, Any]:
    """Run `python -m` with these arguments: what was said, how it ended, how long it took."""
    start = time.monotonic()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    if rehearse:
        environment |= {REHEARSAL: "1", "CUDA_VISIBLE_DEVICES": ""}
    with log.open("a+", encoding="utf-8", errors="replace") as file:
        typer.echo(f"  python -m {shlex.join(command)}")
        file.write(f"$ python -m {shlex.join(command)}\n")
        file.flush()
        begin = file.tell()
        child = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            child.wait(max(limit, 0))
            status = "done" if child.returncode == 0 else "failed"
        except subprocess.TimeoutExpired:
            status = "out of time"
        finally:
            stop(child)
        file.seek(begin)
        said = [line.rstrip() for line in file if line.strip()]
    where = str(ROOT)
    return {
        "command": shlex.join(private_command(command)),
        "status": status,
        "exit": child.returncode,
        "seconds": round(time.monotonic() - start, 1),
        "said": [line.replace(where, ".") for line in said[-TAIL:]],
    }


def _gather(folder: Path, archive: Path) -> None:
    """Put the records of a folder into one small file."""
    if records := sorted(folder.glob("*.json")):
        draft = archive.with_suffix(".draft")
        with tarfile.open(draft, "w:xz") as file:
            for record in records:
                file.add(record, record.name)
        draft.replace(archive)


def _card() -> str:
    """Ask another process, which leaves no memory behind, for the GPU and the versions. Raises ValueError."""
    done = subprocess.run([sys.executable, "-c", CARD], capture_output=True, text=True)
    if done.returncode:
        raise ValueError("no CUDA device is available here; --rehearse runs all of it on the CPU")
    return done.stdout.strip()


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.offline.gpu_pass")
