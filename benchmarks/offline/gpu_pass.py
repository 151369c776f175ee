"""`python -m benchmarks.offline.gpu_pass --out DIR`: what a GPU node that is there for minutes can tell.

Steps run one after the other, each in processes of its own with a time limit. A step that fails, runs out of memory or
out of time is recorded and the next one starts. The same command goes on where it stopped, also on another node that
was given what lies in DIR: a JSON file for each step, `records.tar.xz`, `clocks.csv` and `summary.md`, eight files.
The working folder, elsewhere, holds logs and the records themselves, and may be lost. With `--minutes` the whole never
takes longer: each step is cut to what is left, and the last is made of the size that fits. `--rehearse` runs all
of it on the CPU with toy sizes, so that nothing is tried for the first time on the card. Exit status: 0 all done, 1
some step was not, 2 bad request.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.jobs.executors import ROOT, interruptible, stop
from benchmarks.offline.gpu_steps import Step, steps
from benchmarks.offline.gpu_summary import summary
from results.names import unknown
from results.private import private_command

REHEARSAL = "SMOE_REHEARSE"  # set for tests marked gpu, which then run on the CPU
RECORDS = "records.tar.xz"
LEAST_SECONDS = 20.0  # less than this is not worth starting a step for
TAIL = 30  # lines of output that a step's file keeps
CLOCKS = ("nvidia-smi", "--query-gpu=timestamp,clocks.sm,power.draw,temperature.gpu", "--format=csv,noheader", "-lms",
          "500")  # fmt: skip
CARD = "import torch; print(torch.cuda.get_device_name(), torch.__version__, torch.version.cuda)"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="Folder of the results; the same one goes on where it stopped.")],
    only: Annotated[str | None, typer.Option(help="Some of the steps, with commas. [all]")] = None,
    minutes: Annotated[float | None, typer.Option(help="Of all steps together. [their own limits]")] = None,
    work: Annotated[Path | None, typer.Option(help="Working folder, outside OUT. [OUT-work]")] = None,
    rehearse: Annotated[bool, typer.Option("--rehearse", help="On the CPU, with toy sizes.")] = False,
) -> None:
    """Run what is not done yet, and write a summary."""
    work = (work or out.with_name(f"{out.resolve().name}-work")).resolve()
    all_steps = steps(work, rehearse)
    names = only.split(",") if only is not None else [step.name for step in all_steps]
    try:
        if wrong := [name for name in names if name not in {step.name for step in all_steps}]:
            raise unknown("step", wrong[0], [step.name for step in all_steps])
        if minutes is not None and minutes <= 0:
            raise ValueError(f"minutes {minutes} must be above 0")
        if work.is_relative_to(out.resolve()):
            raise ValueError(f"the working folder {work} lies in {out}, which is to stay small: choose one outside")
        if any((before := recorded(out, step)) and before["rehearsal"] != rehearse for step in all_steps):
            raise ValueError(f"{out} holds {'results of a card' if rehearse else 'a rehearsal'}: choose another folder")
        card = "rehearsal on the CPU, toy sizes" if rehearse else _card()
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    chosen = [step for step in all_steps if step.name in names]
    deadline = time.monotonic() + 60 * minutes if minutes is not None else None
    plan(chosen, out, card, minutes)
    out.mkdir(parents=True, exist_ok=True)
    restore(all_steps, out, work)
    try:
        with interruptible(), clocks(out, rehearse):
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
        page = summary(card, [(s, recorded(out, s)) for s in all_steps], work)
        (out / "summary.md").write_text(page, encoding="utf-8")
        typer.echo(f"{out / 'summary.md'}")
    raise typer.Exit(0 if all((recorded(out, s) or {}).get("status") == "done" for s in chosen) else 1)


def plan(chosen: Sequence[Step], out: Path, card: str, minutes: float | None) -> None:
    """Say what will be run and how long it should take."""
    typer.echo(card)
    for step in chosen:
        before = recorded(out, step)
        status = f"{before['status']} before" if before else "to do"
        typer.echo(f"  {step.name:12} about {step.expected:g} minutes, at most {step.limit:g}; {status}: {step.what}")
    todo = sum(s.expected for s in chosen if (recorded(out, s) or {}).get("status") != "done")
    budget = "" if minutes is None else f"; budget {minutes:g}"
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
        results = (recorded(out, step) or {}).get("results") or {}  # none where it ended before it had any
        for name in step.results:
            if name in results and not (work / name).exists():
                (work / name).parent.mkdir(parents=True, exist_ok=True)
                (work / name).write_text(json.dumps(results[name]), encoding="utf-8")
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
        # What was planned on an earlier try stays, or what it finished would be of no use.
        before = (recorded(out, step) or {}).get("planned")

        def planned() -> Iterator[Sequence[str]]:
            """Yield the commands; what follows is planned when its turn comes."""
            yield from step.commands
            if step.then is not None:
                left = limit - (time.monotonic() - start)
                body["planned"] = before or [list(command) for command in step.then(left)]
                yield from body["planned"]
            yield from step.last

        for command in planned():
            left = limit - (time.monotonic() - start)
            done = _command(command, work / f"{step.name}.log", left, rehearse)
            body["commands"].append(done)
            statuses.append(done["status"])
            _gather(work / "records", out / RECORDS)  # a node may be taken away in the middle of a step
            if done["status"] == "out of time":
                break
        body["status"] = next((s for s in ("out of time", "failed") if s in statuses), "done")
    finally:
        body["seconds"] = round(time.monotonic() - start, 1)
        found = {name: work / name for name in step.results if (work / name).is_file()}
        body["results"] = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in found.items()}
        _gather(work / "records", out / RECORDS)
        (out / f"{step.name}.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    return body


def _command(command: Sequence[str], log: Path, limit: float, rehearse: bool) -> dict[str, Any]:
    """Run `python -m` with these arguments: what was said, how it ended, how long it took."""
    start = time.monotonic()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
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
        "said": [line.replace(where, ".").replace(sys.prefix, "...") for line in said[-TAIL:]],
    }


def _gather(folder: Path, archive: Path) -> None:
    """Put the records of a folder into one small file."""
    if records := sorted(folder.glob("*.json")):
        draft = archive.with_suffix(".draft")
        with tarfile.open(draft, "w:xz") as file:
            for record in records:
                file.add(record, record.name)
        draft.replace(archive)


@contextlib.contextmanager
def clocks(out: Path, rehearse: bool) -> Iterator[None]:
    """Inside, log the card's clocks, power and temperature twice a second beside whatever is timed."""
    if rehearse or shutil.which(CLOCKS[0]) is None:
        yield
        return
    with (out / "clocks.csv").open("a", encoding="utf-8") as file:
        logger = subprocess.Popen(CLOCKS, stdout=file, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            yield
        finally:
            stop(logger)


def _card() -> str:
    """Ask another process, which leaves no memory behind, for the GPU and the versions. Raises ValueError."""
    done = subprocess.run([sys.executable, "-c", CARD], capture_output=True, text=True)
    if done.returncode:
        raise ValueError("no CUDA device is available here; --rehearse runs all of it on the CPU")
    return done.stdout.strip()


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.offline.gpu_pass")
