"""Learning rates chosen on held-out training documents: which record belongs to which grid, and which rate won.

The runner asks this to decide what to run, the reports ask it to show what was decided, from the same records.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable

from results.metrics import macro_accuracy
from results.record import Record, RunSpec

HELD_OUT = "held-out"


def grid_id(spec: RunSpec) -> str:
    """What all jobs of one method's grid, and those they decide on, have in common: all but rate, seed, split, task."""
    fields = spec.to_json()
    for name in ("learning_rate", "seed", "split", "task"):
        del fields[name]
    return json.dumps(fields, sort_keys=True)


def grid(spec: RunSpec, rates: Iterable[float]) -> list[RunSpec]:
    """The jobs that choose a rate for `spec`: the same with each rate, scored on held-out training documents."""
    return [dataclasses.replace(spec, learning_rate=rate, split=HELD_OUT) for rate in rates]


def best(records: Iterable[Record]) -> Record | None:
    """The finished record of one grid with the highest macro mean; the lower rate of two that tie; None without any."""
    scored = [(value, r) for r in records if r.status == "done" and (value := macro_accuracy(r)) is not None]
    return min(scored, key=lambda pair: (-pair[0], pair[1].spec.learning_rate))[1] if scored else None
