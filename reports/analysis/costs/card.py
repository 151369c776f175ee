"""What a pass over a GPU left (benchmarks/offline/gpu_pass.py): steps at published shapes, ratios, the device's limits.

Everything is read from the files of its steps. Steps of methods are measured one after the other in one process, what a
step is being what n of them take beyond n others; ratios of layers take turns. A step's time beyond what its kernels
keep the device busy is the host's, which launches them.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.metrics import macro_accuracy
from results.record import Record
from results.store import Store

OWN, SMOE, LORA = "lora-own", "lora-smoe", "lora"
CALLED = {OWN: "LoRA in the same layer", LORA: "PEFT's LoRA"}
STEPS = ("tests", "speed", "shapes", "small", "commonsense")


@dataclass(frozen=True, kw_only=True)
class Step:
    """A training step of one method at a published shape, and what its allocation took. None: not measured."""

    model: str
    method: str
    batch: int  # samples
    tokens: int
    seconds: float
    busy_seconds: float | None  # that kernels kept the device busy
    kernels: int | None
    peak_bytes: int | None
    trained: int  # parameters
    allocate_seconds: float | None
    allocate_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One thing over another, with the bound it was to keep; `low` and `high`: the middle half of its rounds."""

    name: str
    value: float
    low: float | None
    high: float | None
    bound: float | None
    at_most: bool
    detail: str

    @property
    def met(self) -> bool | None:
        """Whether it keeps its bound; None without one."""
        if self.bound is None:
            return None
        return self.value <= self.bound if self.at_most else self.value >= self.bound


@dataclass(frozen=True, kw_only=True)
class Pass:
    """All that came back."""

    card: str
    commit: str
    versions: Mapping[str, str]
    statuses: Mapping[str, tuple[str, float]]  # of a step: how it ended, minutes
    tests: str  # pytest's last line; "" where they did not run
    limits: tuple[tuple[str, str], ...]  # what the device does at most: what, rate
    ratios: tuple[Ratio, ...]
    steps: tuple[Step, ...]
    records: tuple[Record, ...]


def read(folder: Path) -> Pass:
    """Read what lies in the folder. Raises ValueError where no step of a pass does, or one cannot be read."""
    found: dict[str, dict[str, Any]] = {}
    for name in STEPS:
        if (file := folder / f"{name}.json").is_file():
            try:
                found[name] = json.loads(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ValueError(f"{file.name} is no JSON: {error}") from error
    if not found:
        raise ValueError(f"{folder.name} holds no step of a GPU pass: one of {', '.join(STEPS)} with .json behind it")
    bodies = [body for step in found.values() for body in (step.get("results") or {}).values()]
    if not bodies:
        raise ValueError(f"{folder.name}: no step of this pass came to a result")
    steps = tuple(step for body in bodies for step in _steps(body))
    tables = [table for body in bodies for table in body.get("tables", ())]
    limits = tuple(dict(tuple(row) for table in tables for row in table["rows"] if len(row) == 2).items())
    measured = tuple(_ratio(row) for body in bodies for part in ("ratios", "compiled") for row in body.get(part, ()))
    said = next((c["said"] for c in found.get("tests", {}).get("commands", ()) if c["said"]), [""])
    where = bodies[0]["environment"]
    return Pass(
        card=where["device_name"] or "a rehearsal on a CPU",
        commit=where["git_commit"] or "unknown",
        versions={name: version for name, version in where["versions"].items() if version},
        statuses={name: (step["status"], step["seconds"] / 60) for name, step in found.items()},
        tests=said[-1],
        limits=limits,
        ratios=(*derived(steps), *measured),
        steps=steps,
        records=tuple(r for r in Store(folder).all() if r.status == "done"),
    )


def _steps(body: Mapping[str, Any]) -> list[Step]:
    found = []
    for entry in body.get("entries", ()):
        allocate = entry.get("allocate") or {}
        for batch, cost in entry.get("steps", {}).items():
            if "error" in cost:
                continue
            profile = cost.get("profile") or {}
            busy = profile.get("busy_ms")
            found.append(
                Step(
                    model=entry["model"].removeprefix("random:"), method=entry["method"], batch=int(batch),
                    tokens=cost["tokens"], seconds=cost["wall_seconds"],
                    busy_seconds=None if busy is None else busy / 1000, kernels=profile.get("kernels"),
                    peak_bytes=cost["peak_allocated_bytes"] or cost["peak_resident_bytes"],
                    trained=entry["trainable_params"], allocate_seconds=allocate.get("wall_seconds"),
                    allocate_bytes=allocate.get("peak_allocated_bytes") or allocate.get("peak_resident_bytes"),
                )
            )  # fmt: skip
    return found


def _ratio(row: Mapping[str, Any]) -> Ratio:
    return Ratio(
        name=row["name"], value=row["value"], low=row["low"], high=row["high"], bound=row["bound"],
        at_most=row["direction"] == "at most", detail=row["detail"],
    )  # fmt: skip


def derived(steps: tuple[Step, ...]) -> list[Ratio]:
    """Divide LoRA-SMoE's step and allocation by the steps of both LoRAs, at every shape and batch that has them."""
    found: list[Ratio] = []
    at = {(s.model, s.batch, s.method): s for s in steps}
    for model, batch in dict.fromkeys((s.model, s.batch) for s in steps):
        smoe = at.get((model, batch, SMOE))
        for other, name in CALLED.items():
            lora = at.get((model, batch, other))
            if smoe is None or lora is None:
                continue
            bounds = (1.10, 1.05, 1.0) if other == OWN else (None, None, None)
            where = f"{model}, {batch} x {lora.tokens // batch} tokens"

            def add(what: str, a: float | None, b: float | None, bound: float | None, unit: str,
                    where: str = where) -> None:  # fmt: skip
                if a is not None and b:
                    detail = f"{a:.4g} / {b:.4g} {unit}; {where}"
                    found.append(
                        Ratio(name=what, value=a / b, low=None, high=None, bound=bound, at_most=True, detail=detail)
                    )

            step, over = f"step of LoRA-SMoE / {name}", f"/ step of {name}"
            add(f"{step}: time", 1e3 * smoe.seconds, 1e3 * lora.seconds, bounds[0], "ms")
            busy = [_times(1e3, s.busy_seconds) for s in (smoe, lora)]
            add(f"{step}: time the device is busy", busy[0], busy[1], None, "ms")
            peak = _times(1e-9, lora.peak_bytes)
            add(f"{step}: peak memory", _times(1e-9, smoe.peak_bytes), peak, bounds[1], "GB")
            if other == OWN and batch == max(b for m, b, _ in at if m == model):
                add(f"allocation {over}, 100 of them: time", smoe.allocate_seconds, 100 * lora.seconds, bounds[2], "s")
                add(f"allocation {over}: peak memory", _times(1e-9, smoe.allocate_bytes), peak, bounds[2], "GB")
    return found


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value


def accuracies(records: tuple[Record, ...]) -> list[tuple[str, int | None, int, float, float | None]]:
    """Return (method, training documents, seeds, mean macro accuracy in percent, its SD over seeds) of the records."""
    rows = []
    for method in dict.fromkeys(r.spec.method for r in records):
        of = [r for r in records if r.spec.method == method]
        scores = [100 * score for r in of if (score := macro_accuracy(r)) is not None]
        spread = statistics.stdev(scores) if len(scores) > 1 else None
        documents = of[0].spec.train_documents if of[0].spec.epochs and method != "frozen" else None
        rows.append((method, documents, len(of), statistics.fmean(scores) if scores else math.nan, spread))
    return rows
