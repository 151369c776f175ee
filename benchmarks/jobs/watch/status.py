"""What the logs and records of a folder say of its sweeps: what runs, how far it is, what failed, when it ends."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.jobs.watch.log import is_alive, last_line, sweeps
from results.spec import SCHEMA
from results.store import Store

STATES = ("running", "failed", "waiting", "done")


@dataclass
class Job:
    """One job of a sweep. seconds_left: estimated, None where unknown."""

    key: str
    state: str  # one of STATES
    seconds_left: float | None = None
    line: Mapping[str, Any] = field(default_factory=dict)  # the log's last one, of a job that runs
    error: str | None = None  # of a failed one


@dataclass
class Status:
    """Of all sweeps that left a file in the folder. alive: how many run; heard: when the last gave a sign of life."""

    jobs: list[Job]
    alive: int
    at_once: int  # jobs that those do together
    over: bool  # every sweep came to its end; neither alive nor over: killed
    heard: float | None

    def counts(self) -> dict[str, int]:
        found = Counter(job.state for job in self.jobs)
        return {state: found[state] for state in STATES}

    def seconds_left(self) -> float | None:
        """Estimate the time until the end; None where nothing runs or a job's time is unknown."""
        left = [job.seconds_left for job in self.jobs if job.state in ("running", "waiting")]
        known = [seconds for seconds in left if seconds is not None]
        return sum(known) / self.at_once if self.at_once and len(known) == len(left) else None


def status(folder: Path) -> Status:
    """Read a folder of records; no lock is taken and nothing is written."""
    store = Store(folder)
    found = [(path, body, is_alive(path, body)) for path, body in sweeps(folder)]
    estimates: dict[str, float | None] = {}
    ended: dict[str, str] = {}
    running = set()
    for _, body, alive in found:
        estimates |= {key: e if isinstance(e, int | float) else None for key, e in body["jobs"].items()}
        ended |= body["ended"]
        if alive and isinstance(body.get("running"), list):
            running |= {key for key in body["running"] if isinstance(key, str)}
    jobs = [_job(store, key, key in running, ended.get(key)) for key in estimates]
    took = [last_line(folder, key).get("seconds") for key in ended]
    measured = [s for s in took if isinstance(s, int | float)]
    mean = sum(measured) / len(measured) if measured else None
    for job in jobs:
        if job.state == "waiting":
            job.seconds_left = mean if estimates[job.key] is None else estimates[job.key]
        elif job.state == "running":
            job.seconds_left = _left(job.line, mean)
    times = [path.stat().st_mtime for path, _, _ in found if path.exists()]
    return Status(
        sorted(jobs, key=lambda job: STATES.index(job.state)),
        alive=sum(alive for _, _, alive in found),
        at_once=sum(_at_once(body) for _, body, alive in found if alive),
        over=all(bool(body.get("over")) for _, body, _ in found),
        heard=max(times, default=None),
    )


def _at_once(body: Mapping[str, Any]) -> int:
    return count if isinstance(count := body.get("at_once"), int) and count > 0 else 1


def _job(store: Store, key: str, running: bool, ended: str | None) -> Job:
    if running:
        return Job(key, "running", line=last_line(store.folder, key))
    record = store.load(key)
    if record is not None and record.status == "done" and record.schema == SCHEMA:
        return Job(key, "done")
    if ended == "failed":
        return Job(key, "failed", error=record.error if record is not None else None)
    return Job(key, "waiting")


def _left(line: Mapping[str, Any], mean: float | None) -> float | None:
    """Seconds until a running job ends: by its own estimate, else by those that have ended."""
    left = line.get("seconds_left", line.get("estimate_seconds"))
    since = time.time() - line["time"] if isinstance(line.get("time"), int | float) else 0.0
    if isinstance(left, int | float):
        return max(0.0, left - max(0.0, since))
    return mean
