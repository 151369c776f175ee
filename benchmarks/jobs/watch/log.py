"""What a sweep leaves beside its records while it runs: a structured log for each job, and a file on the sweep itself.

`logs/KEY.jsonl` holds one JSON object a line: time (seconds since 1970), event ("start", "progress", "end"), phase,
done and total; of a training step also loss, tokens and memory_bytes; and seconds_left, where an estimate is known.
`logs/sweeps/ID.json` names the jobs of one sweep with their estimates; its time of change is its sign of life.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from results.files import write_whole
from results.record import Record

PAUSE_SECONDS = 1.0  # between two lines of one phase that is no training step
ALIVE_SECONDS = 30.0  # a sweep that has given no sign of life for so long has been killed
LOGS, SWEEPS = "logs", "sweeps"


class JobLog:
    """Writes one job's log. A disk that takes no log stops no job: what cannot be written is left out."""

    def __init__(self, folder: Path, key: str, estimate: float | None):
        self.path = folder / LOGS / f"{key}.jsonl"
        self._estimate = estimate
        self._start = time.monotonic()
        self._last = ("", 0.0)
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        self._write(event="start", key=key, estimate_seconds=estimate)

    def progress(self, phase: str, done: int, total: int, facts: Mapping[str, Any]) -> None:
        """Note how far a phase is; facts of a training step: loss, tokens, memory_bytes."""
        now = time.monotonic()
        if not facts and phase == self._last[0] and now - self._last[1] < PAUSE_SECONDS and done < total:
            return
        self._last = (phase, now)
        left = None if self._estimate is None else max(0.0, round(self._estimate - (now - self._start), 1))
        self._write(event="progress", phase=phase, done=done, total=total, **facts, seconds_left=left)

    def ended(self, record: Record) -> None:
        seconds = round(time.monotonic() - self._start, 1)
        self._write(event="end", status=record.status, error=record.error, seconds=seconds)

    def _write(self, **line: Any) -> None:
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"time": round(time.time(), 1), **line}) + "\n")


class Sweep:
    """A context manager that keeps the file on a sweep; `beat` gives a sign of life. Threads may share one."""

    def __init__(self, folder: Path, estimates: Mapping[str, float | None], at_once: int = 1):
        """Remember the jobs. estimates: seconds of each by key, None where unknown; at_once: how many run together."""
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{time.monotonic_ns() % 10**6}"
        self.path = folder / LOGS / SWEEPS / f"{name}.json"
        self._body: dict[str, Any] = {
            "started": round(time.time(), 1), "jobs": dict(estimates), "running": [], "ended": {}, "over": False,
            "at_once": at_once,
        }  # fmt: skip
        self._beaten = 0.0
        self._lock = threading.Lock()

    def __enter__(self) -> Sweep:
        for path, body in sweeps(self.path.parents[2]):
            if not is_alive(path, body):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
        self._save()
        return self

    def __exit__(self, *error: object) -> None:
        self._body |= {"over": True, "running": []}
        self._save()

    def running(self, key: str) -> None:
        with self._lock:
            self._body["running"].append(key)
            self._save()

    def ended(self, record: Record) -> None:
        with self._lock:
            self._body["ended"][record.key] = record.status
            self._body["running"] = [key for key in self._body["running"] if key != record.key]
            self._save()

    def beat(self) -> None:
        if time.monotonic() - self._beaten > ALIVE_SECONDS / 10:
            self._beaten = time.monotonic()
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def _save(self) -> None:
        if self.path.parents[2].is_dir():  # a store that has gone is not made anew
            with contextlib.suppress(OSError):
                write_whole(self.path, json.dumps(self._body))


def sweeps(folder: Path) -> Iterable[tuple[Path, dict[str, Any]]]:
    """Yield (file, content) of every sweep that left a readable one in a folder of records, oldest first."""
    for path in sorted((folder / LOGS / SWEEPS).glob("*.json")):
        with contextlib.suppress(OSError, ValueError, RecursionError):
            body = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
            if isinstance(body, dict) and all(isinstance(body.get(name), dict) for name in ("jobs", "ended")):
                yield path, body


def is_alive(path: Path, body: Mapping[str, Any]) -> bool:
    """Say whether the sweep runs: it is not over and its file was touched lately, by the clock of the file system."""
    try:
        return not body.get("over") and abs(time.time() - path.stat().st_mtime) < ALIVE_SECONDS
    except OSError:
        return False


def last_line(folder: Path, key: str) -> dict[str, Any]:
    """Return the last whole line of a job's log, empty where there is none."""
    try:
        with (folder / LOGS / f"{key}.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    for line in reversed(lines):
        with contextlib.suppress(ValueError, RecursionError):
            if isinstance(body := json.loads(line), dict):
                return body
    return {}
