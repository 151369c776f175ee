"""Read what a job's process tells until it ends, and say when it has to be stopped."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.jobs.watch.pulse import AT

SILENCE_SECONDS = 600.0  # without a heartbeat, of which there is one every few seconds: the process is stuck
POLL_SECONDS = 0.5
END_SECONDS = 60.0  # from the end of its output to the end of a process


@dataclass
class Supervisor:
    """Follows one child.

    told: called with (phase, done, total, facts) as they come; beat: called about every POLL_SECONDS; timeout: seconds
    that a job may take, None for no limit.
    """

    told: Callable[[str, int, int, dict[str, Any]], None]
    beat: Callable[[], None]
    timeout: float | None = None
    silence: float = SILENCE_SECONDS

    def follow(self, child: subprocess.Popen) -> str | None:
        """Return None when the child has ended by itself, else why it has to be stopped and where it was."""
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=_read, args=(child, lines), daemon=True).start()
        started = heard = time.monotonic()  # no jump of the clock ends a job
        place, at = "start", None
        while True:
            line: str | None = ""
            with contextlib.suppress(queue.Empty):
                line = lines.get(timeout=POLL_SECONDS)
            now = time.monotonic()
            self.beat()
            if line is None or (not line and child.poll() is not None):
                break  # whatever it started and left behind may hold the pipe open
            if line:
                heard = now
                message = _parsed(line)
                if isinstance(message, dict):
                    at = message.get(AT)
                elif message is not None:
                    phase, done, total, facts = message
                    place = f"{phase} {done}/{total}"
                    self.told(phase, done, total, facts)
            stands = f"in {place}" + (f" at {at}" if at else "")
            if self.timeout is not None and now - started > self.timeout:
                return f"no end after {self.timeout:g} s (--job-timeout): {stands}"
            if now - heard > self.silence:
                return f"no sign of life for {self.silence:g} s: {stands}"
        try:
            child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return f"its output ended and the process did not, for {END_SECONDS:g} s: in {place}"
        return None


def _read(child: subprocess.Popen, lines: queue.SimpleQueue[str | None]) -> None:
    assert child.stdout is not None  # a pipe was asked for
    with contextlib.suppress(ValueError, OSError), child.stdout:
        for line in child.stdout:
            lines.put(line)
    lines.put(None)


def _parsed(line: str) -> Any:
    """Return a heartbeat's object or a list of (phase, done, total, facts); None for a library's own print."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(message, dict):
        return message
    if not isinstance(message, list) or len(message) != 4:
        return None
    phase, done, total, facts = message
    plain = isinstance(phase, str) and isinstance(done, int) and isinstance(total, int) and isinstance(facts, dict)
    return message if plain else None
