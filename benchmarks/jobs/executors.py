"""Where jobs run: each in a child process of its own, so that no job sees another's memory, caches or seeds.

A child ends with its parent, however the parent ends: it watches its standard input, and the whole process group is
stopped on the way out. Two runs over one folder share the work: each takes the jobs that the other has not in hand.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from benchmarks.jobs.kept import places
from benchmarks.jobs.watch import leftovers
from benchmarks.jobs.watch.log import LOGS, JobLog, Sweep
from benchmarks.jobs.watch.many import ALONE, Beside, side_by_side
from benchmarks.jobs.watch.supervisor import Supervisor
from benchmarks.models.assets import cache
from results import Record, RunSpec
from results.environment import SHARED, shared_machine
from results.private import private_command
from results.spec import SCHEMA
from results.store import Store, StoreError

Progress = Callable[..., None]  # (phase, done, total), and of a training step its facts by name: loss, tokens
ROOT = Path(__file__).resolve().parents[2]
COMMAND = "SMOE_COMMAND"  # the command line the user gave, for the child's record
TRACKER = "SMOE_TRACKER"  # the tracker that the child tells
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
    """One job after another on this machine.

    job_timeout: seconds that a job may take; tracker: name of a tracker that is told of every job (watch/trackers.py);
    estimates: seconds by key, for the logs; keep_adapters: whether trained adapters are kept (kept/), for which a
    finished job without one is run again; at_once: children side by side (watch/many.py), whose records give no times.
    """

    store: Store
    job_timeout: float | None = None
    tracker: str | None = None
    estimates: Mapping[str, float | None] = field(default_factory=dict)
    keep_adapters: bool = False
    at_once: int = 1

    def run(self, specs: Sequence[RunSpec], started: Callable[[RunSpec], Progress]) -> Iterator[Record]:
        """Yield the record of each spec as it comes; finished ones are not run again.

        A job that another run over the folder has in hand is passed over and looked at again after the others.
        started: called with a spec when its turn comes; what it returns is told the job's progress.
        Raises StoreError where the folder goes away meanwhile, and OSError where it cannot be written.
        """
        shared = True if self.at_once > 1 else _shared_at_start()
        self.store.folder.mkdir(parents=True, exist_ok=True)
        place = _identity(self.store.folder)
        leftovers.clean(self.store.folder)
        before = {spec.key: self.store.load(spec.key) for spec in specs}
        todo, begun = list(specs), dict[str, Progress]()

        def told(spec: RunSpec) -> Progress:
            if spec.key not in begun:
                begun[spec.key] = started(spec)
            return begun[spec.key]

        def job(spec: RunSpec, beside: Beside) -> Record | None:
            """Return the record of a job; None where another run has it in hand."""
            if _identity(self.store.folder) != place:
                raise StoreError(
                    f"the folder of the records, {self.store.folder}, has gone or been replaced since this run "
                    "began; put it back and give the same command again: it goes on where it stopped"
                )
            with leftovers.claim(self.store.folder, spec.key) as held:
                if not held:
                    return None
                record = places.found(self.store, spec, self.keep_adapters)
                record = record or _newer(self.store.load(spec.key), before[spec.key])
                record = record or self._run(spec, told(spec), shared, sweep, beside)
            before[spec.key] = record  # should it be tried once more
            sweep.ended(record)
            told(spec)
            return record

        estimates = {spec.key: self.estimates.get(spec.key) for spec in specs}
        with Sweep(self.store.folder, estimates, self.at_once) as sweep:
            while todo:
                waiting = list[RunSpec]()
                for spec, record in side_by_side(todo, job, self.at_once):
                    if record is None:
                        waiting.append(spec)
                    else:
                        yield record
                if len(waiting) == len(todo):
                    told(waiting[0])("waiting for another run", 0, 1)
                    sweep.beat()
                    time.sleep(WAIT_SECONDS)
                todo = waiting

    def _run(
        self, spec: RunSpec, progress: Progress, shared: bool | None, sweep: Sweep, beside: Beside = ALONE
    ) -> Record:
        folder = self.store.folder / LOGS
        folder.mkdir(exist_ok=True)
        spec_file, log_file = folder / f"{spec.key}{leftovers.SPEC}", folder / f"{spec.key}.log"
        spec_file.write_text(json.dumps(spec.to_json()))
        before = self.store.load(spec.key)
        log = JobLog(self.store.folder, spec.key, self.estimates.get(spec.key))
        sweep.running(spec.key)

        def told(phase: str, done: int, total: int, facts: dict[str, Any]) -> None:
            progress(phase, done, total)
            log.progress(phase, done, total, facts)

        with log_file.open("w") as output:
            child = self._child(spec, spec_file, output, shared, beside)

            def beat() -> None:
                beside.check()
                sweep.beat()

            try:
                stopped = Supervisor(told, beat, self.job_timeout).follow(child)
            finally:
                stop(child)
        spec_file.unlink(missing_ok=True)
        record = self.store.load(spec.key)
        if record is None or (record.status != "done" and record == before):
            record = self._died(spec, stopped, child.returncode, log_file)
        log.ended(record)
        return record

    def _child(
        self, spec: RunSpec, spec_file: Path, output: IO[str], shared: bool | None, beside: Beside
    ) -> subprocess.Popen:
        arguments = [str(spec_file.resolve()), str(self.store.folder.resolve())]
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.jobs.child", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            errors="replace",
            start_new_session=True,
            env={
                **os.environ,
                **beside.environment(),
                **({} if shared is None else {SHARED: str(int(shared))}),
                **ALLOCATORS[spec.malloc],
                **_bytecode(),
                **({TRACKER: self.tracker} if self.tracker else {}),
                **({places.ASKED: "1"} if self.keep_adapters else {}),
                COMMAND: json.dumps(private_command(sys.argv)),
                "TOKENIZERS_PARALLELISM": "false",
                "TORCH_CUDNN_SDPA_DEPRIORITIZED": "1",  # models/attention.py says why
                "PYTHONPATH": _path(),
            },
        )

    def _died(self, spec: RunSpec, stopped: str | None, status: int, log_file: Path) -> Record:
        """Return the record of a child that was stopped, or was killed, out of memory or unable to write."""
        if stopped is not None:
            error = f"TimeoutError: {spec.method} was stopped: {stopped}"
        else:
            text = log_file.read_text(errors="replace") if log_file.is_file() else ""
            lines = [line for line in text.splitlines() if line.strip()]
            reason = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
            if status == -signal.SIGKILL:
                reason += " (out of memory?)"
            last = lines[-1][:300] if lines else "no output"
            error = f"the job's process ended without a record: {reason}; {last}"
        record = Record.failed(spec, error, environment={})
        if self.store.folder.is_dir():  # a folder that has gone is not made anew
            with contextlib.suppress(OSError):  # a full disk may be why the child ended; the run's table still says so
                self.store.save(record)
        return record


def _newer(record: Record | None, before: Record | None) -> Record | None:
    """Return a record that came while this run was on: another run's, which need not be tried again if it failed."""
    return record if record is not None and record.schema == SCHEMA and record != before else None


def _identity(folder: Path) -> tuple[int, int] | None:
    """Tell a folder from another that stands in its place; None where there is none."""
    try:
        state = folder.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino


@functools.cache
def _shared_at_start() -> bool | None:
    """Look once, before this process's own jobs are load, unless whoever started it knows."""
    return os.environ[SHARED] == "1" if SHARED in os.environ else shared_machine()


@functools.cache
def _bytecode() -> dict[str, str]:
    """Say where a child keeps compiled modules, where this process found none and may write none beside the sources.

    Containers are often set so, and compiling anew what a job imports takes longer than the imports themselves.
    """
    library = importlib.util.find_spec("torch")  # the largest import of a job
    source = library.origin if library is not None else None
    if not sys.dont_write_bytecode or source is None or Path(importlib.util.cache_from_source(source)).is_file():
        return {}
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(cache() / "bytecode")}


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
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)  # what it left behind, which may hold its pipes open
