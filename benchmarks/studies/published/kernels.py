"""What a device does in one training step: whether it is bound by launches or by work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.jobs.meter import synchronize

LONGEST = 10


def kernels_of(run: Callable[[int], object], device: str) -> dict[str, Any]:
    """Profile `run(1)` and `run(2)`: kernels of one step more, the ms in which they kept the device busy, the longest.

    On a CPU operations stand in the place of kernels. An "error" where the profiler does not work.
    """
    try:
        one, two = (_counted(lambda times=times: run(times), device) for times in (1, 2))  # type: ignore[misc]
    except RuntimeError as error:
        return {"error": str(error).partition("\n")[0][:200]}
    more = {name: (n - one.get(name, (0, 0.0))[0], us - one.get(name, (0, 0.0))[1]) for name, (n, us) in two.items()}
    longest = sorted(more, key=lambda name: -more[name][1])[:LONGEST]
    return {
        "kernels": sum(n for n, _ in more.values()),
        "busy_ms": round(sum(us for _, us in more.values()) / 1000, 3),
        "longest": [{"name": name[:120], "times": more[name][0], "ms": round(more[name][1] / 1000, 3)}
                    for name in longest],
    }  # fmt: skip


def _counted(run: Callable[[], object], device: str) -> dict[str, tuple[int, float]]:
    """Return {kernel: (times, microseconds)}."""
    cuda = torch.device(device).type == "cuda"
    # On a device its kernels alone: taking down what the host did as well took half a minute for a step at 3B.
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiler:
        run()
        synchronize(device)
    found: dict[str, tuple[int, float]] = {}
    for event in profiler.key_averages():
        if cuda and event.device_type != torch.autograd.DeviceType.CUDA:
            continue
        spent = event.self_device_time_total if cuda else event.self_cpu_time_total
        found[event.key] = (event.count, spent)
    return found
