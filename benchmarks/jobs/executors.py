"""Where jobs run: each in a child process of its own, so that no job sees another's memory, caches or seeds.

A child ends with its parent, however the parent ends: it watches its standard input, and the whole process group is
stopped on the way out. Two runs over one folder share the work: a job that another run has in hand is waited for.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from results import Record, RunSpec
from results.environment import SHARED, shared_machine
from results.private import private_command
from results.store import Store

Progress = Callable[[str, int, int], None]  # (phase, done, total)
ROOT = Path(__file__).resolve().parents[2]
COMMAND = "SMOE_COMMAND"  # the command line the user gave, for the child's record
WAIT_SECONDS = 1.0  # between two looks at a job that another run has in hand
GRACE_SECONDS = 5.0  # for a child to end by itself
# By RunSpec.malloc: what a child's C library is told. By default blocks come from a heap, whose gaps hang on
# small things: peaks of one job differ by 2 to 4%. A large block with a mapping of its own leaves at once what it
# took, but the system has to clear its pages anew each time.
ALLOCATORS = {
    "heap": {},
    "mapped": {
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "GLIBC_TUNABLES": ":".join(
            f"glibc.malloc.{name}={value}"
            for name, value in {"arena_max": 1, "mmap_threshold": 2**18, "trim_threshold": 2**18}.items()
        ),
    },
}


@dataclass
class LocalProcesses:
    """One job after another on this machine."""

    store: Store

    def run(self, specs: Sequence[RunSpec], started: Callable[[RunSpec], Progress]) -> Iterator[Record]:
        """Yield the record of each spec as it comes; finished ones are not run again.

        started: called with a spec when its turn comes; what it returns is told the job's progress.
        """
        shared = _shared_at_start()
        for spec in specs:
            progress = started(spec)
            with self._claim(spec.key, progress):
                record = self.store.find(spec) or self._run(spec, progress, shared)
            yield record

    def _run(self, spec: RunSpec, progress: Progress, shared: bool | None) -> Record:
        folder = self.store.folder / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        spec_file, log_file = folder / f"{spec.key}.spec.json", folder / f"{spec.key}.log"
        spec_file.write_text(json.dumps(spec.to_json()))
        before = self.store.load(spec.key)
        with log_file.open("w") as log:
            child = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "benchmarks.jobs.child",
                    str(spec_file.resolve()),
                    str(self.store.folder.resolve()),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                env={
                    **os.environ,
                    **({} if shared is None else {SHARED: str(int(shared))}),
                    **ALLOCATORS[spec.malloc],
                    COMMAND: json.dumps(private_command(sys.argv)),
                    "TOKENIZERS_PARALLELISM": "false",
                    "PYTHONPATH": _path(),
                },
            )
            try:
                assert child.stdout is not None  # a pipe was asked for
                for line in child.stdout:
                    with contextlib.suppress(ValueError):  # a library's own print
                        progress(*json.loads(line))
                status = child.wait()
            finally:
                stop(child)
        spec_file.unlink(missing_ok=True)
        record = self.store.load(spec.key)
        if record is not None and (record.status == "done" or record != before):
            return record
        return self._died(spec, status, log_file)

    def _died(self, spec: RunSpec, status: int, log_file: Path) -> Record:
        """Return the record of a child that ended without one: killed, out of memory, or unable to write."""
        lines = [line for line in log_file.read_text(errors="replace").splitlines() if line.strip()]
        reason = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        if status == -signal.SIGKILL:
            reason += " (out of memory?)"
        last = lines[-1][:300] if lines else "no output"
        record = Record.failed(spec, f"the job's process ended without a record: {reason}; {last}", environment={})
        with contextlib.suppress(OSError):  # a full disk may be why the child ended; the run's table still says so
            self.store.save(record)
        return record

    @contextlib.contextmanager
    def _claim(self, key: str, progress: Progress) -> Iterator[None]:
        """Hold the job alone; waits while another run on this machine has it in hand."""
        try:
            import fcntl
        except ImportError:  # no file locks on this platform: two runs would both do the job
            yield
            return
        folder = self.store.folder / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{key}.lock").open("w") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    progress("waiting for another run", 0, 1)
                    time.sleep(WAIT_SECONDS)
            yield


@functools.cache
def _shared_at_start() -> bool | None:
    """Look once, before this process's own jobs are load."""
    return shared_machine()


def _path() -> str:
    """Put this repository before the paths set already, so that a child finds the same code from any folder."""
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Inside, SIGTERM interrupts as Ctrl-C does, a KeyboardInterrupt with an argument; afterwards it is what it was.

    Left behind, the handler would be inherited by processes forked later, which a pool ends by this very signal.
    """

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt(signum)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def stop(child: subprocess.Popen) -> None:
    """End the child and whatever it started, gently first."""
    if child.stdin is not None:
        child.stdin.close()
    for kill in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, kill)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(GRACE_SECONDS)
    if child.stdout is not None:
        child.stdout.close()
