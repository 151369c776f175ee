"""Several jobs of one run side by side on one machine: who has which threads and devices, and who goes next.

What they compute is what they compute alone at as many threads. Their times count for nothing, and their records say
so. A job that has run out of an accelerator's memory beside others is tried once more when they have ended.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from queue import SimpleQueue

import torch

from results import Record, RunSpec

THREADS, DEVICES = "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"
LOOK_SECONDS = 0.5
FULL = ("OutOfMemoryError", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")  # of a device that others fill as well


class Stopped(Exception):
    """The run is being stopped, and its jobs with it."""


@dataclass(frozen=True)
class Beside:
    """A job's place among those of a run: one of `count` at once."""

    place: int = 0
    count: int = 1
    stop: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise Stopped where the run is being stopped."""
        if self.stop.is_set():
            raise Stopped

    def environment(self) -> dict[str, str]:
        """Return what the job's process is told: its share of the CPUs, and its device where there are several."""
        if self.count == 1:
            return {}
        told = {} if THREADS in os.environ else {THREADS: str(max(1, (os.cpu_count() or 1) // self.count))}
        devices = os.environ.get(DEVICES, "").split(",")
        if devices == [""]:
            devices = [str(i) for i in range(torch.cuda.device_count())]
        return told | ({DEVICES: devices[self.place % len(devices)]} if len(devices) > 1 else {})


ALONE = Beside()
Job = Callable[[RunSpec, Beside], Record | None]


def side_by_side(specs: Sequence[RunSpec], job: Job, count: int) -> Iterator[tuple[RunSpec, Record | None]]:
    """Yield (spec, what `job` made of it) as they end, at most `count` at once.

    With a count of 1 each in turn, in this thread. An exception in a job, or in whoever takes what is yielded, stops
    the others.
    """
    if count == 1:
        yield from ((spec, job(spec, ALONE)) for spec in specs)
        return
    stop, places = threading.Event(), SimpleQueue[int]()
    for place in range(count):
        places.put(place)

    def placed(spec: RunSpec) -> Record | None:
        if stop.is_set():
            raise Stopped
        place = places.get()
        try:
            return job(spec, Beside(place, count, stop))
        finally:
            places.put(place)

    again = []
    with ThreadPoolExecutor(count) as pool:
        try:
            running: dict[Future[Record | None], RunSpec] = {pool.submit(placed, spec): spec for spec in specs}
            while running:
                for future in wait(running, LOOK_SECONDS, FIRST_COMPLETED).done:
                    spec, record = running.pop(future), future.result()
                    if record is not None and _was_full(record):
                        again.append(spec)
                    else:
                        yield spec, record
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    yield from ((spec, job(spec, ALONE)) for spec in again)


def _was_full(record: Record) -> bool:
    return record.status == "failed" and any(word in str(record.error) for word in FULL)
