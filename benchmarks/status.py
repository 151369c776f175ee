"""`python -m benchmarks.status FOLDER [--watch]`: what a sweep over that folder does, from any terminal or machine.

It reads the logs that a run leaves beside its records and changes nothing. Exit status: 0, or 2 without such a folder.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from benchmarks.jobs.watch.status import Job, Status, status
from results.store import SCRATCH, folder_path

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
WATCH_SECONDS = 2.0
SHOWN = 20  # waiting and finished jobs; of the others every one


@app.command()
def main(
    folder: Annotated[Path, typer.Argument(parser=folder_path, help="Of the records, as in --out.")] = SCRATCH,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds until the sweep ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything that is known as JSON.")] = False,
) -> None:
    """Say what runs, how far it is, what failed and when it ends."""
    if not folder.is_dir():
        print(f"error: {folder} is no folder; name the one that --out named, or start a run there", file=sys.stderr)
        raise typer.Exit(2)
    if watch and as_json:
        print("error: --json prints once; leave --watch out", file=sys.stderr)
        raise typer.Exit(2)
    now = status(folder)
    if as_json:
        print(json.dumps({**dataclasses.asdict(now), "seconds_left": now.seconds_left()}, indent=1))
        return
    console = Console()
    console.soft_wrap = not console.is_terminal
    if not watch:
        return console.print(shown(now, folder), soft_wrap=not console.is_terminal)
    with Live(shown(now, folder), console=console, auto_refresh=False) as live:
        while now.alive:
            time.sleep(WATCH_SECONDS)
            now = status(folder)
            live.update(shown(now, folder), refresh=True)


def shown(now: Status, folder: Path) -> Any:
    """Lay a status out for a terminal."""
    lines = [Text(line, style=style) for line, style in _lines(now, folder)]
    return Group(*lines)


def _lines(now: Status, folder: Path) -> list[tuple[str, str]]:
    if not now.jobs:
        return [(f"{folder}: no sweep has left a log here", "")]
    parts = ", ".join(f"{count} {state}" for state, count in now.counts().items() if count)
    about = "runs" if now.alive == 1 else f"{now.alive} sweeps run" if now.alive else "ended" if now.over else "stopped"
    lines = [(f"{folder}: {about}; {len(now.jobs)} jobs: {parts}", "bold")]
    if not now.alive and not now.over:
        lines.append(("the sweep was killed: give the same command again, it goes on where it stopped", "red"))
    left: dict[str, int] = {}
    for job in now.jobs:
        left[job.state] = left.get(job.state, 0) + 1
        if job.state in ("running", "failed") or left[job.state] <= SHOWN:
            lines.append((f"  {job.state:8} {job.key}  {_about(job)}".rstrip(), "red" if job.state == "failed" else ""))
        elif left[job.state] == SHOWN + 1:
            lines.append((f"  {job.state:8} and {now.counts()[job.state] - SHOWN} more", ""))
    if now.alive:
        seconds = now.seconds_left()
        end = "is known after the first job" if seconds is None else f"in about {_time(seconds)}, {_clock(seconds)}"
        lines.append((f"end: {end}", ""))
    return lines


def _about(job: Job) -> str:
    if job.state == "failed":
        return job.error or "no record says why"
    if job.state == "waiting":
        return "" if job.seconds_left is None else f"about {_time(job.seconds_left)}"
    if job.state == "done":
        return ""
    line = job.line
    parts = [f"{line['phase']} {line['done']}/{line['total']}" if "phase" in line else "starts"]
    if isinstance(loss := line.get("loss"), int | float):
        parts.append(f"loss {loss:.3f}")
    if isinstance(tokens := line.get("tokens"), int):
        parts.append(f"{tokens:,} tokens")
    if isinstance(memory := line.get("memory_bytes"), int):
        parts.append(f"{memory / 2**20:,.0f} MiB")
    if job.seconds_left is not None:
        parts.append(f"about {_time(job.seconds_left)} left")
    if isinstance(when := line.get("time"), int | float):
        parts.append(f"heard {max(0.0, time.time() - when):.0f} s ago")
    return ", ".join(parts)


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _clock(seconds: float) -> str:
    return "at " + time.strftime("%a %H:%M", time.localtime(time.time() + seconds))


if __name__ == "__main__":
    app()
