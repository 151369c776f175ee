"""Wall seconds and peak bytes of a block of code.

CUDA: the allocator's peaks, reset at the start. Linux CPU: VmHWM, the process's resident high-water mark, reset by
writing 5 to /proc/self/clear_refs (never `ru_maxrss`, which a child inherits from its parent), less the pages of
shared libraries: how many of those are resident hangs on what the system has cached, and moved repeats of one job by
110 MB between a new and an old environment. What the platform cannot tell is None.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from results import Cost


@dataclass
class Meter:
    """Filled in as the block runs and when it ends; `tokens` is the block's to add to."""

    tokens: int | None = None
    cost: Cost | None = None


@contextmanager
def measure(device: str) -> Iterator[Meter]:
    """Measure the block; afterwards `meter.cost` holds what it cost, also when the block raised."""
    cuda = torch.device(device).type == "cuda"
    release()
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    resettable = reset_resident_peak()
    meter = Meter()
    start = time.perf_counter()
    try:
        yield meter
    finally:
        if cuda:
            torch.cuda.synchronize()
        meter.cost = Cost(
            wall_seconds=time.perf_counter() - start,
            tokens=meter.tokens,
            peak_allocated_bytes=torch.cuda.max_memory_allocated() if cuda else None,
            peak_reserved_bytes=torch.cuda.max_memory_reserved() if cuda else None,
            peak_resident_bytes=own_peak() if resettable else None,
        )


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
    try:
        with open("/proc/self/status") as file:
            lines = dict(line.split(":", 1) for line in file if ":" in line)
        return int(lines["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


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
    if torch.device(device).type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info()
    return total - free
