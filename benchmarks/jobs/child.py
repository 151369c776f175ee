"""The child process of one job: `python -m benchmarks.jobs.child SPEC.json OUT`.

It writes the record into the folder OUT and tells how far it is on standard output, one JSON list a line: [phase, done,
total]. It ends when its standard input closes, so that a parent that was killed leaves no child behind.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.jobs.executors import COMMAND, Progress
from benchmarks.jobs.job import job
from benchmarks.jobs.meter import device_bytes_in_use
from results import Record, RunSpec
from results.environment import environment
from results.store import SCRATCH, Store, StoreError

IDLE_BYTES = 500 * 2**20  # more than this in use before the start is somebody else's work (PEFT's rule)


def repeatable(device: str) -> bool:
    """Whether the same spec gives the same losses and outcomes bit for bit, run again on the same machine."""
    return torch.device(device).type == "cpu" or torch.are_deterministic_algorithms_enabled()


def attempt(spec: RunSpec, progress: Progress) -> Record:
    """Return the record of the job, or of its failure with what was measured before it."""
    in_use = device_bytes_in_use(spec.device)
    cuda = spec.device == "cuda"
    surroundings = environment(torch.cuda.get_device_name() if cuda else None)
    if command := os.environ.get(COMMAND):
        surroundings["command"] = json.loads(command)
    surroundings["threads"] = torch.get_num_threads()
    surroundings["deterministic"] = repeatable(spec.device)
    surroundings["device_busy_bytes"] = in_use if in_use is not None and in_use > IDLE_BYTES else None
    draft = Record.failed(spec, "did not end", surroundings)
    try:
        return job(spec, progress, draft)
    except Exception as error:  # the one place: a failed job is recorded and the rest goes on
        traceback.print_exc()
        where = traceback.extract_tb(error.__traceback__)[-1]
        return replace(draft, error=f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})")


def main(spec_file: str, out: str) -> int:
    """Run the job of one spec file; exit status 0 when it is done, 1 when it failed (the record says why)."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    spec = RunSpec.from_json(json.loads(Path(spec_file).read_text()))

    def progress(phase: str, done: int, total: int) -> None:
        print(json.dumps([phase, done, total]), flush=True)

    record = attempt(spec, progress)
    try:
        Store(Path(out)).save(record)
    except StoreError as error:  # what was measured is kept, if anywhere at all
        print(f"{error}; kept in {Store(SCRATCH).save(record)}", file=sys.stderr)
        raise
    return 0 if record.status == "done" else 1


def _end_with_parent() -> None:
    while os.read(0, 4096):  # not sys.stdin, whose lock a thread must not hold when the interpreter ends
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
