"""A sweep whose jobs measure nothing: `python tests/crash_sweep.py STORE JOBS`, made to be killed at any moment.

Locks, logs, processes and records are those of every run; only what a child does is a pause and a made-up record.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

from synthetic_records import make_record, make_spec

from benchmarks.jobs.executors import LocalProcesses, interruptible
from results import RunSpec
from results.store import Store


def job(spec_file: str, out: str) -> None:
    """Be the child: end with the parent, as the real one does; the record tells one attempt from another."""
    threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
    spec = RunSpec.from_json(json.loads(Path(spec_file).read_text()))
    for step in range(3):
        print(json.dumps(["train", step + 1, 3, {"loss": 1.0}]), flush=True)
        time.sleep(random.uniform(0, 0.05))
    record = make_record(spec.method, spec.seed, layers=20, env={"timestamp": f"{os.getpid()}-{time.time_ns()}"})
    assert record.key == spec.key
    Store(Path(out)).save(record)


def specs(jobs: int) -> list[RunSpec]:
    return [make_spec(method="lora", seed=seed) for seed in range(jobs)]


class Jobs(LocalProcesses):
    def _child(self, spec, spec_file, output, shared, beside):
        arguments = [__file__, "--job", str(spec_file.resolve()), str(self.store.folder.resolve())]
        return subprocess.Popen(
            [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, text=True,
            start_new_session=True,
        )  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1] == "--job":
        job(*sys.argv[2:])
    else:
        with interruptible():
            for done in Jobs(Store(sys.argv[1])).run(specs(int(sys.argv[2])), lambda spec: lambda *progress: None):
                print(done.key, done.status, flush=True)
