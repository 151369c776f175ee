"""What a running suite shows: the plan, a bar for the jobs and one for the phase in hand; plain lines when piped."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.jobs.executors import Progress as Report
from results import Record, RunSpec


class Display:
    """A context manager; `started` and `ended` are called for every job in turn."""

    def __init__(
        self, specs: Sequence[RunSpec], finished: set[str], estimates: Mapping[str, float | None], at_once: int = 1
    ):
        """Print the plan. finished: keys of jobs that were done before; at_once: jobs side by side."""
        self.console = Console()
        # A pipe has no width: folded at 80 characters, a long key or an error could not be searched for.
        self.console.soft_wrap = not self.console.is_terminal
        self._finished = finished
        self._estimates = estimates
        todo = [s for s in specs if s.key not in finished]
        seconds = [e for s in todo if (e := estimates[s.key]) is not None]
        self.console.print(f"[bold]{len(specs)} jobs[/], {len(specs) - len(todo)} finished before", highlight=False)
        for spec in specs:
            state = "finished" if spec.key in finished else _minutes(estimates[spec.key])
            self.console.print(f"  {spec.key}  {state}", highlight=False)
        if todo:
            total = _minutes(sum(seconds) / at_once) if len(seconds) == len(todo) else "known after the first job"
            self.console.print(f"estimated time: {total}", highlight=False)
        self._live = self.console.is_terminal
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self._live,
        )
        self._jobs = self._bars.add_task("jobs", total=len(specs))
        self._phase = self._bars.add_task("-", total=1) if at_once == 1 else None
        self._several = at_once > 1
        self._own: dict[str, Any] = {}  # each job's bar, by key

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def started(self, spec: RunSpec) -> Report:
        if spec.key not in self._finished:
            self.console.print(f"{time.strftime('%H:%M:%S')} {spec.method} seed {spec.seed}", highlight=False)

        bar = self._bars.add_task("-", total=1) if self._phase is None else self._phase
        self._own[spec.key] = bar
        last, job = ("", 0.0), f"{spec.method} s{spec.seed}"
        line = f"{job}: " if self._several else ""

        def progress(phase: str, done: int, total: int, **_: object) -> None:
            nonlocal last
            name = f"{job}: {phase}"
            if name != last[0]:
                self._bars.reset(bar, description=name, total=total)
                if not self._live:
                    self.console.print(f"  {line}{phase}", highlight=False)
                last = (name, time.monotonic())
            elif not self._live and time.monotonic() - last[1] > 30:
                self.console.print(f"  {line}{phase} {done}/{total}", highlight=False)
                last = (name, time.monotonic())
            self._bars.update(bar, completed=done, total=total)

        return progress

    def ended(self, record: Record) -> None:
        self._bars.advance(self._jobs)
        if self._several and (bar := self._own.pop(record.key, None)) is not None:
            self._bars.remove_task(bar)
        about = f"{record.spec.method} s{record.spec.seed}: " if self._several else ""
        if record.status == "failed":
            self.console.print(f"  {about}failed: {record.error}", style="red", highlight=False, markup=False)
        elif record.key not in self._finished:
            seconds = sum(cost.wall_seconds for cost in record.costs.values())
            self.console.print(f"  {about}done in {_minutes(seconds)}", highlight=False)


def _minutes(seconds: float | None) -> str:
    if seconds is None:
        return "time unknown"
    return f"about {seconds:.0f} s" if seconds < 100 else f"about {seconds / 60:.1f} min"
