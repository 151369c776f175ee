"""`--tuned`: every method's learning rate is chosen from one grid before its run, at a cost that is on record.

Every rate is a job of its own, a quarter of the run's size, on its first seed, scored on the fifth of the training
documents that is held out (`sources.splits`), never on an evaluation document. The fewest bits per byte of the right
answers win; where the best rate is at an edge of the grid, one rate beyond it is tried. The method then runs as usual
with the winner and every seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from benchmarks import registry
from results import Record, RunSpec
from results.adapters import joined
from results.tuning import best, beyond_edge, grid, grid_id

RATES = (1.25e-4, 3.15e-4, 7.9e-4, 2e-3)


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
    """Return the jobs of each method's grid, by `grid_id`; a method that trains nothing has none."""
    first_seed: dict[str, int] = {}
    jobs: dict[str, list[RunSpec]] = {}
    for spec in specs if rates else ():
        name, method = grid_id(spec), registry.method(spec.method)
        if method.trains and first_seed.setdefault(name, spec.seed) == spec.seed:
            scaled = method.grid(rates, spec.learning_rate)
            jobs.setdefault(name, []).extend(grid(spec, scaled))  # with an adapter for each task, of every task
    return jobs


def with_edges(
    grids: Mapping[str, Sequence[RunSpec]], find: Callable[[RunSpec], Record | None]
) -> dict[str, list[RunSpec]]:
    """Return the grids, each with the jobs of one more rate where its best one is at an edge."""
    wider = {name: list(jobs) for name, jobs in grids.items()}
    for jobs in wider.values():
        finished = joined(r for job in jobs if (r := find(job)) is not None)
        if (winner := best(finished)) is not None and (rate := beyond_edge(finished, winner)) is not None:
            first = jobs[0].learning_rate  # with an adapter for each task, that of several jobs
            jobs += [replace(job, learning_rate=rate) for job in jobs if job.learning_rate == first]
    return wider


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
