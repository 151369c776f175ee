"""Wall seconds and peak bytes of a block of code.

CUDA and XPU: the allocator's peaks, reset at the start; MPS tells none. Linux CPU: VmHWM, the process's resident
high-water mark, reset by writing 5 to /proc/self/clear_refs (never `ru_maxrss`, which a child inherits from its
parent), less the pages of shared libraries: how many of those are resident hangs on what the system has cached, and
moved repeats of one job by 110 MB between a new and an old environment. What the platform cannot tell is None.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from results import Cost
from results.record import PHASES, PREPARE

NO_COST = Cost(
    wall_seconds=0.0, tokens=None, peak_allocated_bytes=None, peak_reserved_bytes=None, peak_resident_bytes=None
)


def allocator_of(device: str) -> Any:
    """Return torch's module of a device whose allocator tells its peaks; None for a CPU and for MPS."""
    return {"cuda": torch.cuda, "xpu": torch.xpu}.get(torch.device(device).type)


def synchronize(device: str) -> None:
    """Wait until an accelerator has done what it was given; nothing on a CPU."""
    kind = torch.device(device).type
    if kind != "cpu":
        getattr(torch, kind).synchronize()


@dataclass
class Meter:
    """Filled in as the block runs and when it ends; `tokens` is the block's to add to."""

    tokens: int | None = None
    cost: Cost | None = None


@contextmanager
def measure(device: str, fresh: bool = True, keep_cache: bool = False) -> Iterator[Meter]:
    """Measure the block; afterwards `meter.cost` holds what it cost, also when the block raised.

    fresh: whether what earlier work freed is given back first, which takes a moment and which exact peaks need.
    keep_cache: leave an accelerator's allocator what it holds, or the block asks the driver for all of it anew, which
    times that are warm must not; what is allocated and its peak are the same.
    """
    allocator = allocator_of(device)
    if fresh:
        release()
    synchronize(device)
    if allocator is not None:
        if not keep_cache:
            # Workspaces of cuBLAS, 32 MiB and more for a thread and stream, stay from the first product on.
            getattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: None)()
            allocator.empty_cache()
        allocator.reset_peak_memory_stats()
    resettable = reset_resident_peak()
    meter = Meter()
    start = time.perf_counter()
    try:
        yield meter
    finally:
        synchronize(device)
        meter.cost = Cost(
            wall_seconds=time.perf_counter() - start,
            tokens=meter.tokens,
            peak_allocated_bytes=allocator.max_memory_allocated() if allocator else None,
            peak_reserved_bytes=allocator.max_memory_reserved() if allocator else None,
            peak_resident_bytes=own_peak() if resettable else None,
        )


@dataclass
class Phases:
    """The phases of one job, each measured into `costs`; one that comes in parts is their sum, with the highest peak.

    What comes before the clock of a phase starts, giving back memory, belongs to `prepare`. A phase that raises leaves
    nothing. The peaks of those around `PHASES` may hold what earlier work freed.
    """

    costs: MutableMapping[str, Cost]
    device: str

    @contextmanager
    def __call__(self, name: str) -> Iterator[Meter]:
        """Measure the block as a part of the phase of that name."""
        before = time.perf_counter()
        with measure(self.device, fresh=name in PHASES) as meter:
            yield meter
        assert meter.cost is not None
        self._add(name, meter.cost)
        around = time.perf_counter() - before - meter.cost.wall_seconds
        self._add(PREPARE, replace(NO_COST, wall_seconds=max(around, 0.0)))

    def _add(self, name: str, cost: Cost) -> None:
        self.costs[name] = together(self.costs[name], cost) if name in self.costs else cost


def together(a: Cost, b: Cost) -> Cost:
    """Return the cost of two parts of one phase: seconds and tokens are added, of peaks the higher one counts."""
    peaks = {
        name: max((x for x in (getattr(a, name), getattr(b, name)) if x is not None), default=None)
        for name in ("peak_allocated_bytes", "peak_reserved_bytes", "peak_resident_bytes")
    }
    tokens = None if a.tokens is None and b.tokens is None else (a.tokens or 0) + (b.tokens or 0)
    return Cost(wall_seconds=a.wall_seconds + b.wall_seconds, tokens=tokens, **peaks)


def since_start() -> Cost | None:
    """Return what this process has cost since it was started: interpreter and imports. None where /proc does not tell.

    The system counts in hundredths of a second.
    """
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])  # starttime, field 22
        seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    return replace(NO_COST, wall_seconds=max(seconds, 0.0), peak_resident_bytes=own_peak())


def rise(device: str, run: Callable[[], object]) -> int | None:
    """Return how far memory rises above what lay there before while `run` runs; None where the platform tells nothing.

    Resident bytes on a CPU, allocated ones on a GPU.
    """
    allocator = allocator_of(device)
    release()
    resettable = reset_resident_peak()
    before = allocator.memory_allocated() if allocator else own_peak() if resettable else None
    with measure(device) as meter:
        run()
    assert meter.cost is not None
    highest = meter.cost.peak_allocated_bytes if allocator else meter.cost.peak_resident_bytes
    return None if highest is None or before is None else max(highest - before, 0)  # pages given back meanwhile


def release() -> None:
    """Give back what earlier work freed but the C library still holds, or it would count for the phase to come."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def reset_resident_peak() -> bool:
    """Start the process's resident high-water mark afresh; False where the platform has no such thing."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return False
    return True


def resident_peak() -> int | None:
    """Peak resident bytes since the last reset, or None where /proc does not tell."""
    return _bytes_in("/proc/self/status", "VmHWM")


def shared_library_bytes() -> int:
    """Resident bytes of shared libraries' files; what they wrote to for themselves is not among them. Linux only."""
    total = 0
    with open("/proc/self/smaps") as file:
        library = False
        for line in file:
            name, *values = line.split()
            if not name.endswith(":"):  # "7f12-7f34 r-xp 00000000 fe:00 123 /usr/lib/libc.so.6"
                library = ".so" in Path(values[-1]).name
            elif library and name in ("Rss:", "Anonymous:"):
                total += int(values[0]) * (1024 if name == "Rss:" else -1024)
    return total


def own_peak() -> int | None:
    """Peak resident bytes since the last reset without the pages of shared libraries, or None."""
    peak = resident_peak()
    try:
        return None if peak is None else peak - shared_library_bytes()
    except (OSError, ValueError):
        return None


def device_bytes_in_use(device: str) -> int | None:
    """Bytes in use on a CUDA device by anyone, before this process has allocated; None on a CPU."""
    if (allocator := allocator_of(device)) is None:
        return None
    free, total = allocator.mem_get_info()
    return int(total - free)


def memory_in_use(device: str) -> int | None:
    """Bytes in use now: of the CUDA allocator, else resident ones of this process; None where nobody tells."""
    if (allocator := allocator_of(device)) is not None:
        return int(allocator.memory_allocated())
    return _bytes_in("/proc/self/status", "VmRSS")


def free_bytes(device: str) -> int | None:
    """Return the bytes that this process could still take on the device, or None where the platform does not tell."""
    if (allocator := allocator_of(device)) is not None:
        return int(allocator.mem_get_info()[0])
    return _bytes_in("/proc/meminfo", "MemAvailable")


def _bytes_in(path: str, name: str) -> int | None:
    """Read a line like "VmHWM:  1024 kB" of a file of /proc; None where there is none."""
    try:
        with open(path) as file:
            lines = dict(line.split(":", 1) for line in file if ":" in line)
        return int(lines[name].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
