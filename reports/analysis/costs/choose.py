"""Which method to take within a limit of parameters and memory: measured, or carried over to another model.

Accuracy is that of the records, on their model. Of another model the trainable parameters grow with the sum of in and
out over its blocks, at the ranks of the records; memory is the frozen weights, and what training adds as counted from
the shapes (arithmetic.py) times how much more the cost records measured than was counted.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reports.analysis.costs.arithmetic import TRAINED_BYTES, Adapter, Shape, kept_bytes, shape_of, static_bytes
from reports.analysis.costs.cost_laws import LARGE, cost_frame
from reports.analysis.groups import Group
from reports.analysis.summary import Summary
from results.names import unknown
from results.record import Record
from results.table import NOTHING, Table

UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}  # of parameters, and before B of bytes
BINARY = {f"{unit}i": 1024.0**i for i, unit in enumerate("kmgt", 1)}


@dataclass(frozen=True)
class Choice:
    """One row of the records against the limits; None for what is not known."""

    summary: Summary
    params: float | None
    memory: float | None  # bytes at the peak
    memory_range: tuple[float, float] | None  # of a predicted one
    refusal: str  # why it is out; empty for one that is not


def amount(text: str, what: str) -> float:
    """Read a number like 10M, 8GB or 2.5GiB. Raises ValueError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*([a-z]*)\s*", text.lower())
    unit = match[2] if match else None
    if unit is not None and what == "memory" and unit.endswith("b"):
        unit = unit[:-1]
    factor = None if unit is None else UNITS.get(unit, BINARY.get(unit))
    if match is None or factor is None or not (value := float(match[1]) * factor):
        example = "8GB, 500MB or 8GiB" if what == "memory" else "10M, 500k or 2.5B"
        raise ValueError(f"{what} {text!r}: expected a number above 0 such as {example}")
    return value


def shape_of_model(name: str, costs: Sequence[Record]) -> Shape:
    """Return the dimensions of a model: of a folder with a config.json, or by a name that is known here.

    Raises ValueError for a folder that does not tell them, and for a name that stands for none.
    """
    folder = Path(name).expanduser()
    if folder.exists():
        return _shape_in(folder / "config.json" if folder.is_dir() else folder)
    known = {**LARGE, **{r.spec.model.removeprefix("random:"): shape_of(r) for r in costs}}
    if name.removeprefix("random:") not in known:
        raise unknown("model (or no such folder)", name, known)
    return known[name.removeprefix("random:")]


def _shape_in(file: Path) -> Shape:
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        said = said.get("text_config", said)
        width, heads = said["hidden_size"], said["num_attention_heads"]
        return Shape(
            layers=said["num_hidden_layers"],
            width=width,
            mlp=said["intermediate_size"],
            heads=heads,
            kv_heads=said.get("num_key_value_heads") or heads,
            head=said.get("head_dim") or width // heads,
            vocabulary=said["vocab_size"],
        )
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file}: no configuration of a Llama-like model ({type(error).__name__}: {error}); give a folder with a "
            "config.json that has hidden_size, intermediate_size, num_hidden_layers and num_attention_heads"
        ) from error


def measured_over_counted(costs: Sequence[Record]) -> dict[str, tuple[float, float, float]]:
    """Return (least, median, most) of measured over counted bytes of training, by method and over all ("")."""
    frame = cost_frame(costs)
    frame = frame[(frame["phase"] == "train") & frame["memory"].notna() & frame["bytes"].notna()]
    ratios = {"": list(frame["memory"] / frame["bytes"])}
    ratios |= {str(m): list(part["memory"] / part["bytes"]) for m, part in frame.groupby("method")}
    return {m: (min(of), statistics.median(of), max(of)) for m, of in ratios.items() if of}


def weight(group: Group) -> tuple[str, int]:
    """Rank groups by how much they tell: those of the newest suite version first, then by documents and methods."""
    version = max(r.spec.suite_version or "" for r in group.records)
    return version, sum(len(row.outcomes(task)) for row in group.finished for task in group.tasks)


def choices(
    group: Group,
    max_params: float | None,
    max_memory: float | None,
    shape: Shape | None = None,
    ratios: Mapping[str, tuple[float, float, float]] | None = None,
) -> list[Choice]:
    """Hold every finished row of a group against the limits, most accurate first; those that are out last.

    shape: of another model than the records', with `measured_over_counted`.
    """
    unit = _per_rank(group)
    made = []
    for summary in (s for s in group.summaries if s.macro is not None):
        params, memory = summary.metrics["trainable_params"], summary.metrics["peak_bytes"]
        spread = None
        if shape is not None:
            params = _carried(params, unit, shape)
            memory, spread = _predicted(summary.row.done[0], params, shape, ratios or {})
        reasons = [
            f"{name} not known" if value is None else f"{name} above the limit"
            for name, value, limit in (("parameters", params, max_params), ("memory", memory, max_memory))
            if limit is not None and (value is None or value > limit)
        ]
        made.append(Choice(summary, params, memory, spread, ", ".join(reasons)))
    return sorted(made, key=lambda c: (bool(c.refusal), -(c.summary.macro or 0)))


def _per_rank(group: Group) -> float | None:
    """Return the sum of in and out over the blocks of the records' model: what one rank of LoRA costs there."""
    for row in group.finished:
        record = row.done[0]
        if row.method in ("lora", "rslora") and record.parameters and (r := record.spec.hyperparameters.get("r")):
            return record.parameters.trainable / r
    return None


def _carried(params: float | None, unit: float | None, shape: Shape) -> float | None:
    """Return the parameters of the same ranks in another model; None where the records hold no LoRA to compare with."""
    if params == 0:
        return 0.0
    return None if params is None or unit is None else params / unit * _rank_one(shape)


def _rank_one(shape: Shape) -> float:
    return float(shape.layers * sum(i + o for i, o in shape.projections.values()))


def _predicted(
    record: Record, params: float | None, shape: Shape, ratios: Mapping[str, tuple[float, float, float]]
) -> tuple[float | None, tuple[float, float] | None]:
    """Return the peak of training in bytes, and its range; None for both where it cannot be counted."""
    own = record.parameters is not None and record.parameters.adapter_bytes is None
    if params is None or (own and params) or not ratios:
        return None, None  # a method that trains the model's own weights is not counted here
    spec, itemsize = record.spec, 4 if record.spec.dtype == "float32" else 2
    frozen = static_bytes(shape, Adapter({}), itemsize)
    if not params:
        return frozen, (frozen, frozen)
    rank = round(params / _rank_one(shape)) or 1
    even = Adapter({(layer, name): (rank, 0) for layer in range(shape.layers) for name in shape.projections})
    rows = spec.micro_batch or spec.batch_size
    added = TRAINED_BYTES * params + kept_bytes(shape, even, spec.max_length, rows, itemsize)
    least, median, most = ratios.get(spec.method, ratios[""])
    return frozen + median * added, (frozen + least * added, frozen + most * added)


def chosen_text(group: Group, made: Sequence[Choice]) -> str:
    """Answer in a sentence or two."""
    fitting = [c for c in made if not c.refusal]
    if not fitting:
        return "No method of these records is within the limits; raise them, or measure a smaller one (lora:r=4)."
    best = fitting[0]
    below = group.outdone[best.summary.row.label]
    near = [c.summary.row.label for c in fitting[1:] if c.summary.row.label not in below]
    text = f"Take {best.summary.row.label}: of those within the limits it has the highest accuracy in these records"
    text += f", {100 * (best.summary.macro or 0):.1f}%."
    if near:
        cheapest = min((c for c in fitting if c.summary.row.label in near), key=lambda c: c.memory or float("inf"))
        text += f" Not shown to be worse: {', '.join(near)}"
        text += f"; of them {cheapest.summary.row.label} takes the least memory." if len(near) > 1 else "."
    return text


def choice_table(group: Group, made: Sequence[Choice], model: str | None) -> Table:
    """Lay the rows out, and say below how their numbers came about."""
    rows = [
        (
            c.summary.row.label,
            f"{100 * (c.summary.macro or 0):.1f}",
            NOTHING if c.params is None else f"{c.params / 1e6:,.2f}M",
            NOTHING if c.memory is None else f"{c.memory / 1e9:,.2f}",
            NOTHING if c.memory_range is None else "–".join(f"{b / 1e9:,.1f}" for b in c.memory_range),
            c.refusal or "within the limits",
        )
        for c in made
    ]
    device = ", ".join(sorted({r.spec.device for r in group.records}))
    where = f"measured on {device}, the whole process" if device == "cpu" else f"measured on {device}, as allocated"
    notes = [f"Accuracy: {group.title}."]
    if model is None:
        notes.append(f"Parameters and memory are those of the records ({where}).")
    else:
        notes.append(
            f"Parameters and memory are carried over to {model}: the same ranks in its blocks; memory of the weights, "
            "and of training as counted from shapes times what the cost records measured above that (median, range). "
            "Accuracy was not measured there."
        )
    columns = ("Method", "Macro mean (%)", "Trainable", "Memory (GB)", "Range (GB)", "Limits")
    return Table("", columns, tuple(rows), frozenset({0, 5}), notes=tuple(notes))
