"""The child process of one job: `python -m benchmarks.jobs.child SPEC.json OUT`.

It writes the record into the folder OUT and tells how far it is on standard output (watch/pulse.py). It ends when its
standard input closes, so that a parent that was killed leaves no child behind.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import traceback
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.jobs.executors import COMMAND, TRACKER, Progress
from benchmarks.jobs.job import job
from benchmarks.jobs.kept import places
from benchmarks.jobs.kept.card import finish
from benchmarks.jobs.meter import allocator_of, device_bytes_in_use, memory_in_use, since_start
from benchmarks.jobs.watch.log import LOGS
from benchmarks.jobs.watch.pulse import Pulse
from benchmarks.jobs.watch.trackers import Tracker
from results import Record, RunSpec
from results.environment import environment
from results.record import START
from results.store import SCRATCH, Store, StoreError

IDLE_BYTES = 2**30  # more than this in use at the start is somebody else's; asking takes up to half of it on an H100


def repeatable(device: str) -> bool:
    """Whether the same spec gives the same losses and outcomes bit for bit, run again on the same machine."""
    return torch.device(device).type == "cpu" or torch.are_deterministic_algorithms_enabled()


def untold(phase: str, done: int, total: int, **facts: object) -> None:
    """Tell nobody how far a job is."""


def attempt(spec: RunSpec, progress: Progress = untold, own_process: bool = False, keep: Path | None = None) -> Record:
    """Return the record of the job, or of its failure with what was measured before it.

    own_process: whether this process was started for the job, so that its start is a phase of it. keep: a folder for
    the trained adapter.
    """
    in_use = device_bytes_in_use(spec.device)
    accelerator = allocator_of(spec.device)
    surroundings = environment(accelerator.get_device_name() if accelerator else None)
    if command := os.environ.get(COMMAND):
        surroundings["command"] = json.loads(command)
    surroundings["threads"] = torch.get_num_threads()
    surroundings["deterministic"] = repeatable(spec.device)
    surroundings["device_busy_bytes"] = in_use if in_use is not None and in_use > IDLE_BYTES else None
    draft = Record.failed(spec, "did not end", surroundings)
    if own_process and (start := since_start()) is not None:
        draft.costs[START] = start  # type: ignore[index]
    try:
        return job(spec, progress, draft, keep)
    except Exception as error:  # the one place: a failed job is recorded and the rest goes on
        traceback.print_exc()
        where = traceback.extract_tb(error.__traceback__)[-1]
        return replace(draft, error=f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})")


def main(spec_file: str, out: str) -> int:
    """Run the job of one spec file; exit status 0 when it is done, 1 when it failed (the record says why)."""
    gc.freeze()  # what was imported stays, and need not be looked through before every phase
    threading.Thread(target=_end_with_parent, daemon=True).start()
    spec = RunSpec.from_json(json.loads(Path(spec_file).read_text()))
    name = os.environ.get(TRACKER)
    tracker = Tracker(name, spec, Path(out) / LOGS) if name else None
    pulse = Pulse(lambda: memory_in_use(spec.device), tracker.step if tracker else None)
    keep = places.part_of(Path(out), spec.key) if os.environ.get(places.ASKED) else None
    record = attempt(spec, pulse, own_process=True, keep=keep)
    if tracker:
        tracker.end(record)
    try:
        if not Path(out).is_dir():  # one that has gone is not made anew, beside the records that were in it
            raise StoreError(f"{out} has gone while the job ran")
        Store(Path(out)).save(record)
        if keep is not None:
            finish(keep, record, places.place_of(Path(out), spec.key))
    except StoreError as error:  # what was measured is kept, if anywhere at all
        print(f"{error}; kept in {Store(SCRATCH).save(record)}", file=sys.stderr)
        raise
    finally:
        pulse.close()
    return 0 if record.status == "done" else 1


def _end_with_parent() -> None:
    while os.read(0, 4096):  # not sys.stdin, whose lock a thread must not hold when the interpreter ends
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
