"""What a user of a trained adapter pays, from records of the serving suite: speed and memory beside the base's.

A model is served in the cheapest form there is of it: its adapter merged into the weights, or attached where it cannot
be merged. Rounds are paired: in each, all forms answered the same prompts in turn.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports import roster
from reports.analysis.costs import inference
from reports.analysis.costs.arithmetic import Adapter, adapter_of, shape_of
from reports.analysis.costs.cost_laws import require_comparable
from results.comparable import row_labels
from results.record import Record
from results.spec import SERVING

BASE, ATTACHED, MERGED = "base", "attached", "merged"  # forms of a model


@dataclass(frozen=True)
class Spread:
    """A number over rounds: the median, the lowest and the highest."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Served:
    """One form of one model at one batch."""

    model: str
    method: str
    label: str
    form: str
    batch: int
    prefill: Spread  # tokens a second
    decode: Spread
    decode_of_base: Spread  # over the base's in the same round
    peak_bytes: int | None  # its weights, and what answering takes above them
    above_base_bytes: int | None
    operations_of_base: float | None  # of writing one token, counted; None where the adapter is not known
    bytes_of_base: float | None  # that are read for it, counted
    mergeable: bool | None  # None: there is no adapter
    kept_parameters: int  # beside the base's, in the form that is served
    is_served: bool  # whether this is the cheapest form of the method


def served(records: Sequence[Record]) -> list[Served]:
    """Return every form of every method at every batch, methods in the roster's order.

    Raises ValueError for no record, or for some that may not be compared.
    """
    chosen = [r for r in records if r.spec.protocol == SERVING and r.status == "done"]
    if not chosen:
        raise ValueError("no finished record of the serving suite; python -m benchmarks.run --suite serving makes them")
    require_comparable(chosen)
    chosen.sort(key=lambda r: (r.spec.model, roster.rank(r.spec.method), r.key))
    labels = row_labels([r.spec for r in chosen])
    return [one for record, label in zip(chosen, labels, strict=True) for one in _of_record(record, label)]


def _of_record(record: Record, label: str) -> list[Served]:
    told: Mapping[str, Any] = record.facts["serving"]
    forms = told["forms"]
    counted = _counted(record)
    return [
        Served(
            model=record.spec.model,
            method=record.spec.method,
            label=label,
            form=form,
            batch=int(batch),
            prefill=spread(entry["prefill"]),
            decode=spread(entry["decode"]),
            decode_of_base=spread(ratios(entry["decode"], forms[BASE][batch]["decode"])),
            peak_bytes=entry["peak_bytes"],
            above_base_bytes=_difference(entry["peak_bytes"], forms[BASE][batch]["peak_bytes"]),
            **counted(form, int(batch)),
            mergeable=told["mergeable"],
            kept_parameters=told["kept_parameters"],
            is_served=form == (MERGED if told["mergeable"] else ATTACHED),
        )
        for form, batches in forms.items()
        for batch, entry in batches.items()
    ]


def _counted(record: Record) -> Any:
    """Return a function of form and batch that counts operations and bytes of writing a token over the base's."""
    adapter, bare = adapter_of(record), Adapter({})
    past = record.facts["serving"]["prompt_tokens"] + record.facts["serving"]["answer_tokens"] // 2

    def counted(form: str, batch: int) -> dict[str, float | None]:
        if adapter is None and form == ATTACHED:
            return {"operations_of_base": None, "bytes_of_base": None}
        shape, itemsize = shape_of(record), 4 if record.spec.dtype == "float32" else 2
        mine = adapter if adapter is not None and form == ATTACHED else bare
        operations = [inference.decoding(shape, a, past) for a in (mine, bare)]
        size = [inference.decoding_bytes(shape, a, past, batch, itemsize) for a in (mine, bare)]
        return {"operations_of_base": operations[0] / operations[1], "bytes_of_base": size[0] / size[1]}

    return counted


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the range of some rounds."""
    return Spread(statistics.median(values), min(values), max(values))


def ratios(values: Sequence[float], over: Sequence[float]) -> list[float]:
    """Divide round by round."""
    return [a / b for a, b in zip(values, over, strict=True)]


def _difference(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a - b


def answers(rows: Sequence[Served]) -> list[str]:
    """Say in a sentence a model what it costs that a router cannot be merged, and what a merged adapter costs."""
    sentences = []
    for model in dict.fromkeys(row.model for row in rows):
        mine = [row for row in rows if row.model == model and row.is_served and row.mergeable is not None]
        kept = [row for row in mine if not row.mergeable]
        merged = [row for row in mine if row.mergeable]
        if kept:
            parts = [f"{label} {_cost([r for r in kept if r.label == label])}" for label in _labels(kept)]
            sentences.append(f"{model}: a router cannot be merged; {'; '.join(parts)}.")
        if merged:
            parts = [f"{label} {_cost([r for r in merged if r.label == label])}" for label in _labels(merged)]
            sentences.append(f"{model}: merged into the weights, {'; '.join(parts)}.")
    return sentences


def _labels(rows: Sequence[Served]) -> list[str]:
    return list(dict.fromkeys(row.label for row in rows))


def _cost(rows: Sequence[Served]) -> str:
    speeds = ", ".join(f"{row.decode_of_base.value:.0%}" for row in rows)
    batches = ", ".join(str(row.batch) for row in rows)
    above = rows[-1].above_base_bytes
    memory = "" if above is None else f", with {above / 1e6:+z,.0f} MB at batch {rows[-1].batch}"
    return f"writes at {speeds} of the base's speed at batch {batches}{memory}"
