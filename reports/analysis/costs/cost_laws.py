"""Cost laws: how time and memory grow, beside what arithmetic says; `python -m reports cost` draws them.

Source: records of the cost suite, where one axis is varied at a time. Time is fitted as
a power of the axis, a + b log x, and b stands beside the exponent of the operations counted from the shapes
(arithmetic.py) over the same points. Memory, a phase's peak above that of the loaded model, is fitted as a
line, since it has parts that the axis does not move, and stands beside the line through the counted bytes. Predictions
for models that were not run are arithmetic alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports import roster
from reports.analysis.costs import arithmetic
from reports.analysis.costs.arithmetic import Shape, uniform
from results.comparable import cost_fields
from results.metrics import phase_peak_bytes
from results.record import Record

PHASES = ("allocate", "train", "evaluate")
AXES = ("width", "layers", "length", "rank", "experts", "probe")
MEASURES = ["seconds", "memory", "operations", "bytes"]
NARROW = "random:llama:"  # the model whose width and depth are varied
FEWEST = 3  # points of a law
LARGE: Mapping[str, Shape] = {
    "7B": Shape(layers=32, width=4096, mlp=11008, heads=32, kv_heads=32, head=128, vocabulary=32000),
    "70B": Shape(layers=80, width=8192, mlp=28672, heads=64, kv_heads=8, head=128, vocabulary=32000),
}
TASKS = (8, 1000)
LENGTH = 256  # tokens of a document, as LLM-Adapters cuts them
PROBES = 8  # documents a task that sensitivity reads
TRAINED = 1000  # documents a task that are trained on
PASSING = 0.6  # share of the tasks for which a block passes, as released (p = 60): experts grow with the tasks


@dataclass(frozen=True)
class Law:
    """How one phase of one method grows along one axis, everything else at the base point."""

    model: str  # published shape; empty for the narrow Llama, whose width and depth are axes
    method: str
    phase: str
    axis: str
    points: tuple[tuple[float, float], ...]  # (value on the axis, seconds), by value, repeats averaged
    memory: tuple[tuple[float, float], ...]  # (value, bytes above the loaded model); empty where it was not measured
    exponent: float
    stderr: float | None  # None with two points to a line
    expected: float | None  # exponent of the counted operations; None where they do not move or are not known
    slope: float | None  # bytes for one more of the axis
    intercept: float | None
    expected_slope: float | None  # of the counted bytes; training alone

    @property
    def label(self) -> str:
        return f"{self.method}, {self.model}" if self.model else self.method


def axes_of(record: Record) -> dict[str, float]:
    """Return the value of a record on every axis that its method has."""
    values, shape = record.spec.hyperparameters, record.facts["shape"]
    place = {"width": shape["width"], "layers": shape["layers"], "length": record.spec.max_length}
    for axis, names in (("rank", ("target_r", "r")), ("experts", ("num_experts", "mean_experts"))):
        if (value := next((values[n] for n in names if values.get(n) is not None), None)) is not None:
            place[axis] = value
    return {**place, "probe": record.spec.probe_documents} if "sensitivity" in record.facts else place


def require_comparable(records: Sequence[Record]) -> None:
    """Raise ValueError naming what differs: seconds of two machines or versions follow no one law."""
    first: dict[str, object] = {}
    for record in records:
        for name, value in cost_fields(record).items():
            if first.setdefault(name, value) != value:
                raise ValueError(f"cost records differ in {name} ({first[name]}, {value}): give one folder for each")


def laws(records: Sequence[Record]) -> list[Law]:
    """Every law that has enough points. Raises ValueError for no record, or for some that may not be compared."""
    if not records:
        raise ValueError("no finished cost record; python -m benchmarks.studies.cost makes them")
    require_comparable(records)
    jobs = cost_frame(records)
    made = []
    for (model, method), family in sorted(
        jobs.groupby(["model", "method"]), key=lambda f: (f[0][0], roster.rank(f[0][1]))
    ):
        axes = [axis for axis in AXES if family[axis].notna().any()]
        base = family[axes].mode().iloc[0]  # the value that most jobs have; of several as frequent ones the smallest
        for axis in axes:
            others = [a for a in axes if a != axis]
            line = family[(family[others] == base[others]).all(axis=1)]
            means = line.groupby(["phase", axis])[MEASURES].mean()
            made += [law for phase in PHASES if (law := _law(model, method, phase, axis, means.loc[phase])) is not None]
    return made


def cost_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return a row a record and phase: its value on each axis, what was measured and what was counted.

    seconds; memory: bytes above the loaded model; operations; bytes: as counted, of training alone. NaN for an axis
    that the method does not have and for what was not measured or cannot be counted.
    """
    rows = []
    for record in records:
        identity = {"model": _published(record), "method": record.spec.method, **axes_of(record)}
        operations = arithmetic.expected(record) or {}
        rows += [
            {
                **identity,
                "phase": phase,
                "seconds": record.costs[phase].wall_seconds,
                "memory": _above_load(record, phase),
                "operations": operations.get(phase),
                "bytes": arithmetic.expected_bytes(record) if phase == "train" else None,
            }
            for phase in PHASES
        ]
    frame = pd.DataFrame(rows, columns=pd.Index(["model", "method", "phase", *AXES, *MEASURES]))
    return frame.astype(dict.fromkeys([*AXES, *MEASURES], float))


def _law(model: str, method: str, phase: str, axis: str, means: pd.DataFrame) -> Law | None:
    """Fit one law. means: a row a value of the axis, repeats averaged, with columns `MEASURES`."""
    seconds, memory, operations, counted = (_points(means[measure]) for measure in MEASURES)
    if len(seconds) < FEWEST or min(y for _, y in seconds) < 1e-3:  # too short to be anything but noise
        return None
    moves = len(operations) == len(seconds) and min(y for _, y in operations) > 0
    slope, intercept = linear(memory) if len(memory) >= FEWEST else (None, None)
    expected_slope = linear(counted)[0] if len(counted) == len(memory) >= FEWEST else None
    exponent, stderr = power(seconds)
    expected = power(operations)[0] if moves else None
    return Law(
        model, method, phase, axis, tuple(seconds), tuple(memory), exponent, stderr, expected, slope, intercept,
        expected_slope,
    )  # fmt: skip


def _points(values: pd.Series) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in values.dropna().items()]


def _published(record: Record) -> str:
    """Name the published shape that a record is of, which has no width or depth to vary; empty for the narrow Llama."""
    return "" if record.spec.model.startswith(NARROW) else record.spec.model.removeprefix("random:")


def linear(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(b, a) of the least-squares line y = a + b x."""
    x, y = np.array(points, dtype=float).T
    slope, intercept = np.polyfit(x, y, 1)
    return float(slope), float(intercept)


def power(points: Sequence[tuple[float, float]]) -> tuple[float, float | None]:
    """(b, its standard error) of the least-squares line log y = a + b log x; None for the error of two points."""
    x, y = np.log(np.array(points, dtype=float)).T
    x = x - x.mean()
    b = float((x * y).sum() / (x * x).sum())
    if len(points) < 3:
        return b, None
    left = y - y.mean() - b * x
    return b, float(np.sqrt((left**2).sum() / (len(points) - 2) / (x * x).sum()))


def predictions() -> list[dict[str, str | float]]:
    """Count operations for models and numbers of tasks that were not run, one row a model, tasks and method."""
    rows: list[dict[str, str | float]] = []
    for name, shape in LARGE.items():
        for tasks in TASKS:
            experts = round(PASSING * tasks)
            adapters = {"lora r=32": uniform(shape, 32), f"{experts} experts of 8": uniform(shape, 8, experts)}
            plain = arithmetic.training(shape, adapters["lora r=32"], LENGTH)
            for label, adapter in adapters.items():
                step = arithmetic.training(shape, adapter, LENGTH)
                scored = 0.0 if label.startswith("lora") else PROBES * arithmetic.scoring(shape, LENGTH)
                rows.append(
                    {
                        "model": name,
                        "tasks": tasks,
                        "adapter": label,
                        "trained_params": adapter.params(shape),
                        "resident_bytes": arithmetic.static_bytes(shape, adapter, itemsize=2),
                        "training_operations": step * TRAINED * tasks,
                        "times_lora": step / plain,
                        "scoring_share": scored / (step * TRAINED),
                    }
                )
    return rows


def _above_load(record: Record, phase: str) -> float | None:
    peak, loaded = phase_peak_bytes(record, phase), phase_peak_bytes(record, "load")
    return None if peak is None or loaded is None else peak - loaded
