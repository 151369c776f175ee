"""`--tune-lr`: every method's learning rate is chosen from one grid before its run, at a cost that is on record.

Every rate is a job of its own, of the same size as the run, on the run's first seed. It trains on four fifths of the
training documents and is scored on the fifth that is held out (`sources.splits`), never on an evaluation document. The
best macro mean there wins, and the method then runs as usual with that rate and every seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from benchmarks import registry
from results import Record, RunSpec
from results.adapters import joined
from results.tuning import best, grid, grid_id


def parse_rates(text: str) -> tuple[float, ...]:
    """Rates of a text like "1e-4,3e-4,1e-3", ascending. Raises ValueError below two, or for one not above 0."""
    try:
        rates = sorted({float(part) for part in text.split(",")})
    except ValueError as error:
        raise ValueError(f"tune-lr {text!r}: expected rates like 1e-4,3e-4,1e-3") from error
    if len(rates) < 2 or not all(math.isfinite(rate) and rate > 0 for rate in rates):
        raise ValueError(f"tune-lr {text!r}: expected two or more different rates above 0, like 1e-4,3e-4,1e-3")
    return tuple(rates)


def grids(specs: Sequence[RunSpec], rates: Sequence[float]) -> dict[str, list[RunSpec]]:
    """The jobs of each method's grid, by `grid_id`; a method that trains nothing has none."""
    methods = registry.methods()
    first_seed: dict[str, int] = {}
    jobs: dict[str, list[RunSpec]] = {}
    for spec in specs if rates else ():
        name = grid_id(spec)
        if methods[spec.method].trains and first_seed.setdefault(name, spec.seed) == spec.seed:
            jobs.setdefault(name, []).extend(grid(spec, rates))  # with an adapter for each task, of every task
    return jobs


def apply_best_rates(
    specs: Sequence[RunSpec], grids: Mapping[str, Sequence[RunSpec]], find: Callable[[RunSpec], Record | None]
) -> tuple[list[RunSpec], list[RunSpec]]:
    """Return (specs at the rate that their grid chose, specs whose grid has no finished job)."""
    winners = {name: best(joined(r for job in jobs if (r := find(job)) is not None)) for name, jobs in grids.items()}
    ready, undecided = [], []
    for spec in specs:
        if grid_id(spec) not in winners:
            ready.append(spec)
        elif (winner := winners[grid_id(spec)]) is None:
            undecided.append(spec)
        else:
            ready.append(replace(spec, learning_rate=winner.spec.learning_rate))
    return ready, undecided
