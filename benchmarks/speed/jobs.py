"""A job around its phases: with the data that the run has made once against data made anew, and its estimate."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.data import prepared
from benchmarks.jobs.executors import LocalProcesses
from benchmarks.models.load import TINY
from benchmarks.plan.estimate import estimate_seconds
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from benchmarks.speed.ratios import Ratio, SideBySide, Subject, Target, ratio
from benchmarks.speed.setting import Setting
from results import Record, RunSpec
from results.record import PHASES
from results.store import Store

AROUND = Target(name="job: time around its phases, data made once a run / anew", bound=0.5)
ESTIMATE = Target(name="job: estimate from its repeats / measured, the larger over the smaller", bound=1.3)
KEPT, ANEW = "kept", "anew"


def targets(device: str) -> list[Target]:
    """Return the ratios measured on `device`, with their bounds."""
    return [AROUND, ESTIMATE]


def prepare(setting: Setting) -> Subject:
    """Let the same job run with the data of a run at hand, and without."""
    sizes: Mapping[str, Any] = dict(suite="cost", train_documents=8, max_length=16) if setting.model == TINY else {}
    asked: dict[str, Any] = dict(model=setting.model, device=setting.device, dtype=setting.dtype, limit=1)
    (spec,) = resolve(Request(methods="frozen", **{**asked, **sizes}))
    records: dict[str, list[Record]] = {KEPT: [], ANEW: []}
    folder = tempfile.TemporaryDirectory(prefix="smoe-speed-")  # goes with the subject

    def compete(name: str) -> None:
        with prepared.folder(Path(folder.name)) if name == KEPT else contextlib.nullcontext():
            records[name].append(measured_job(spec))

    contest = SideBySide({name: partial(compete, name) for name in records}, setting.device)

    def rows() -> list[Ratio]:
        around = {name: [_around(r) for r in records[name][1:]] for name in records}  # the first made the data
        shares = [kept / anew for kept, anew in zip(around[KEPT], around[ANEW], strict=True)]
        *before, last = records[KEPT]
        estimate, measured = estimate_seconds(spec, before, {}), _whole(last)
        assert estimate is not None  # the very job was measured
        seconds = f"{around[KEPT][-1]:.1f} / {around[ANEW][-1]:.1f} s"
        return [
            ratio(AROUND, shares, seconds),
            ratio(ESTIMATE, [max(estimate / measured, measured / estimate)], f"{estimate:.1f} / {measured:.1f} s"),
        ]

    return Subject(contest, setting.rounds(3), rows)


def measured_job(spec: RunSpec) -> Record:
    """Run the job in a process of its own and return its record. Raises RuntimeError where it failed."""
    with tempfile.TemporaryDirectory() as out:
        (record,) = LocalProcesses(Store(Path(out))).run([spec], lambda spec: lambda phase, done, total: None)
    if record.error is not None:
        raise RuntimeError(record.error)
    return record


def _around(record: Record) -> float:
    return sum(cost.wall_seconds for phase, cost in record.costs.items() if phase not in PHASES)


def _whole(record: Record) -> float:
    return sum(cost.wall_seconds for cost in record.costs.values())
