"""Learning rates chosen on held-out training documents: which record belongs to which grid, and which rate won.

The runner asks this to decide what to run, the reports ask it to show what was decided, from the same records.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence

from results.metrics import macro_accuracy, macro_bits_per_byte
from results.record import Record
from results.spec import RunSpec

HELD_OUT = "held-out"
SHARE = 4  # a job of a grid has a quarter of the run's training documents
EDGE_FACTOR = 16 ** (1 / 3)  # between two rates of the standard grid, and to the further one beside its edge


def grid_id(spec: RunSpec) -> str:
    """Name what all jobs of one method's grid, and those they decide on, share: all but rate, seeds, split, task."""
    fields: dict[str, object] = {**spec.to_json(), "model": spec.model_identity[0]}
    if spec.split != HELD_OUT:
        fields["train_documents"] = grid_documents(spec)
    for name in ("learning_rate", "seed", "data_seed", "split", "task"):
        del fields[name]
    return json.dumps(fields, sort_keys=True)


def grid_documents(spec: RunSpec) -> int | None:
    """Training documents of a grid's job, four a task at least where there are as many; None, all, stays so."""
    if spec.train_documents is None:
        return None
    return min(max(spec.train_documents // SHARE, 4 * len(spec.tasks)), spec.train_documents)


def grid(spec: RunSpec, rates: Iterable[float]) -> list[RunSpec]:
    """Plan the jobs that choose a rate for `spec`: a quarter of it with each, scored on held-out training documents."""
    documents = grid_documents(spec)
    return [dataclasses.replace(spec, learning_rate=rate, split=HELD_OUT, train_documents=documents) for rate in rates]


def held_out_measure(record: Record) -> tuple[str, float] | None:
    """Return what a rate is chosen by: (name, value) of bits per byte or, for written answers, of the macro mean."""
    if (bits := macro_bits_per_byte(record)) is not None:
        return "bits_per_byte", bits
    accuracy = macro_accuracy(record)
    return None if accuracy is None else ("macro_accuracy", accuracy)


def best(records: Iterable[Record]) -> Record | None:
    """Return the finished record of a grid with the fewest held-out bits per byte, or else the highest macro mean.

    The lower rate of two that tie; None without any.
    """
    scored = [(measure, r) for r in records if r.status == "done" and (measure := held_out_measure(r)) is not None]
    if not scored:
        return None

    def order(pair: tuple[tuple[str, float], Record]) -> tuple[float, float]:
        (name, value), record = pair
        return (value if name == "bits_per_byte" else -value), record.spec.learning_rate

    return min(scored, key=order)[1]


def beyond_edge(records: Sequence[Record], winner: Record) -> float | None:
    """Return one more rate to try where the best is the lowest or highest of at least two; None inside the grid."""
    rates = sorted({r.spec.learning_rate for r in records})
    rate = winner.spec.learning_rate
    if len(rates) < 2 or rates[0] < rate < rates[-1]:
        return None
    return float(f"{rate / EDGE_FACTOR if rate == rates[0] else rate * EDGE_FACTOR:.3g}")
