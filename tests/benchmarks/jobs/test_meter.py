"""The meter against memory that is known to be there."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.jobs import meter
from benchmarks.jobs.meter import measure

SIZE = 200 * 2**20
needs_proc = pytest.mark.skipif(not meter.reset_resident_peak(), reason="this platform tells no resident peak")


@needs_proc
def test_a_known_tensor_is_seen_within_two_percent():
    with measure("cpu") as before:
        pass
    with measure("cpu") as during:
        tensor = torch.ones(SIZE, dtype=torch.uint8)
    grown = during.cost.peak_resident_bytes - before.cost.peak_resident_bytes
    assert grown == pytest.approx(tensor.numel(), rel=0.02)


@needs_proc
def test_what_was_freed_before_a_phase_does_not_count_for_it():
    with measure("cpu") as first:
        tensor = torch.ones(SIZE, dtype=torch.uint8)
        del tensor
    with measure("cpu") as second:
        pass
    assert first.cost.peak_resident_bytes - second.cost.peak_resident_bytes > 0.95 * SIZE


@needs_proc
def test_pages_of_libraries_do_not_count():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    files = int(status["RssFile"].split()[0]) * 1024
    with measure("cpu") as phase:
        pass
    libraries = meter.shared_library_bytes()
    assert 20 * 2**20 < libraries <= files  # torch alone has more
    assert phase.cost.peak_resident_bytes == pytest.approx(meter.resident_peak() - libraries, rel=0.02)


@needs_proc
def test_the_memory_of_a_parent_does_not_show_in_its_child():
    program = (
        "from benchmarks.jobs.meter import measure\nwith measure('cpu') as m: pass\nprint(m.cost.peak_resident_bytes)"
    )
    held = torch.ones(4 * SIZE, dtype=torch.uint8)
    ours = meter.resident_peak()
    child = int(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
    assert ours > held.numel() > 1.2 * child


def test_wall_seconds_and_tokens_are_those_of_the_block():
    with measure("cpu") as m:
        time.sleep(0.05)
        m.tokens = 7
    assert 0.05 <= m.cost.wall_seconds < 1 and m.cost.tokens == 7
    assert m.cost.peak_allocated_bytes is None and m.cost.peak_reserved_bytes is None


def test_a_block_that_raises_is_measured_too():
    with pytest.raises(KeyError), measure("cpu") as m:
        raise KeyError("x")
    assert m.cost is not None and m.cost.wall_seconds >= 0


def test_what_the_platform_cannot_tell_is_none(monkeypatch):
    def no_proc(path, mode="r"):
        raise FileNotFoundError(path)

    monkeypatch.setattr(meter, "open", no_proc, raising=False)
    with measure("cpu") as m:
        pass
    assert m.cost.peak_resident_bytes is None and not meter.reset_resident_peak() and meter.resident_peak() is None


def test_a_peak_that_cannot_be_reset_is_not_reported(monkeypatch):
    """Without the reset the figure would be that of the phases before."""
    monkeypatch.setattr(meter, "reset_resident_peak", lambda: False)
    with measure("cpu") as m:
        pass
    assert m.cost.peak_resident_bytes is None


def test_a_cpu_has_no_device_memory_in_use():
    assert meter.device_bytes_in_use("cpu") is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_known_tensor_on_the_device_is_seen_exactly():
    with measure("cuda") as m:
        torch.ones(SIZE, dtype=torch.uint8, device="cuda")
    assert m.cost.peak_allocated_bytes >= SIZE and m.cost.peak_reserved_bytes >= m.cost.peak_allocated_bytes
    with measure("cuda") as after:
        pass
    assert m.cost.peak_allocated_bytes - after.cost.peak_allocated_bytes == SIZE


def test_a_phase_in_parts_is_their_sum_with_the_highest_peak():
    costs = {}
    phase = meter.Phases(costs, "cpu")
    for tokens in (3, 4):
        with phase("train") as part:
            time.sleep(0.02)
            part.tokens = tokens
    assert 0.04 <= costs["train"].wall_seconds < 1 and costs["train"].tokens == 7
    low, high = (replace(meter.NO_COST, peak_resident_bytes=peak) for peak in (1, 2))
    assert meter.together(low, high).peak_resident_bytes == meter.together(high, low).peak_resident_bytes == 2
    assert meter.together(meter.NO_COST, low).peak_resident_bytes == 1


def test_phases_leave_no_time_between_them():
    costs = {}
    phase = meter.Phases(costs, "cpu")
    start = time.perf_counter()
    for name in ("load", "prepare", "train", "describe"):
        with phase(name):
            time.sleep(0.01)
    whole = time.perf_counter() - start
    assert sum(cost.wall_seconds for cost in costs.values()) == pytest.approx(whole, rel=0.05)


def test_a_phase_that_raises_leaves_nothing():
    costs = {}
    with pytest.raises(KeyError), meter.Phases(costs, "cpu")("train"):
        raise KeyError("x")
    assert costs == {}


@needs_proc
def test_the_start_of_a_process_is_what_passed_since_it_was_made():
    program = (
        "import time, torch\nfrom benchmarks.jobs.meter import since_start\ntime.sleep(0.3)\ncost = since_start()\n"
        "print(cost.wall_seconds, cost.peak_resident_bytes)"
    )
    before = time.perf_counter()
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert 0.3 < float(told[0]) < time.perf_counter() - before and int(told[1]) > 50e6


@pytest.mark.parametrize(("keep", "emptied"), [(False, 1), (True, 0)])
def test_what_an_accelerators_allocator_holds_stays_where_that_is_asked(monkeypatch, keep, emptied):
    calls = []
    told = dict.fromkeys(("max_memory_allocated", "max_memory_reserved"), lambda: 7)
    acts = {n: lambda n=n: calls.append(n) for n in ("empty_cache", "reset_peak_memory_stats")}
    monkeypatch.setattr(meter, "allocator_of", lambda device: SimpleNamespace(**told, **acts))
    with measure("cpu", keep_cache=keep) as found:
        pass
    assert calls.count("empty_cache") == emptied and calls.count("reset_peak_memory_stats") == 1
    assert found.cost.peak_allocated_bytes == 7
