"""What a job's process tells its parent on standard output: how far it is, and every few seconds where it stands."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

HEARTBEAT_SECONDS = 5.0
ROOT = Path(__file__).resolve().parents[3]
AT = "at"  # the only name in a heartbeat's JSON object; progress is a JSON list


class Pulse:
    """Called with (phase, done, total) and facts by name; writes each as one JSON line.

    memory: returns the bytes in use now, or None; listener: told (step, facts) of every training step, for a tracker.
    """

    def __init__(
        self,
        memory: Callable[[], int | None] = lambda: None,
        listener: Callable[[int, dict[str, Any]], None] | None = None,
        descriptor: int = 1,
    ):
        self._memory = memory
        self._listener = listener
        self._descriptor = descriptor
        self._ended = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def close(self) -> None:
        """Beat no more."""
        self._ended.set()

    def __call__(self, phase: str, done: int, total: int, **facts: Any) -> None:
        if facts:
            facts["memory_bytes"] = self._memory()
            if self._listener is not None:
                self._listener(done, facts)
        self._write([phase, done, total, facts])

    def _beat(self) -> None:
        main = threading.main_thread().ident
        while not self._ended.wait(HEARTBEAT_SECONDS):
            self._write({AT: where(sys._current_frames().get(main or 0))})

    def _write(self, message: Any) -> None:
        with contextlib.suppress(OSError):  # the parent has gone; the watch over standard input ends this process
            # One write below the size of a pipe's buffer is not cut by another thread's.
            os.write(self._descriptor, json.dumps(message).encode() + b"\n")


def where(frame: Any) -> str:
    """Return file:line of the innermost call in this repository's own code, else of the innermost call at all."""
    innermost = frame
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT):
            return f"{path.name}:{frame.f_lineno}"
        frame = frame.f_back
    return "nowhere" if innermost is None else f"{Path(innermost.f_code.co_filename).name}:{innermost.f_lineno}"
