"""An adapter for each task: the jobs of one method and seed, one a task, as one record over all the tasks.

The runner asks this to choose a rate for all of a method's adapters, the reports to show a row over the suite.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from results.record import Cost, Parameters, Record, Score


def joined(records: Iterable[Record]) -> list[Record]:
    """Return the records with those of a method's adapters joined, in the place of their first.

    A joined record is that of a spec without `task`. Seconds, tokens, parameters and bytes are sums over the adapters,
    peaks and the parameters that a token meets their maximum; losses stand one after another in the order of the tasks,
    and facts by task under "adapters". It is "failed" while an adapter is missing or failed.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        whole = dataclasses.replace(record.spec, task=None)
        groups.setdefault(record.key if record.spec.task is None else f"{whole.key} joined", []).append(record)
    return [members[0] if members[0].spec.task is None else _joined(members) for members in groups.values()]


def _joined(records: Sequence[Record]) -> Record:
    by_task = {record.spec.task: record for record in records}
    spec = dataclasses.replace(records[0].spec, task=None)
    adapters = [by_task[task] for task in spec.tasks if task in by_task]
    missing = [task for task in spec.tasks if task not in by_task]
    failures = [f"{r.spec.task}: {r.error}" for r in adapters if r.status != "done"]
    failures += [f"no adapter for {', '.join(missing)}"] if missing else []
    done = [record for record in adapters if record.status == "done"]
    return dataclasses.replace(
        adapters[0],
        spec=spec,
        status="failed" if failures else "done",
        error="; ".join(failures) or None,
        scores={task: score for r in done for task, score in (r.scores or {}).items()} if done else None,
        parameters=None if failures else _parameters([r.parameters for r in done if r.parameters is not None]),
        costs={
            phase: _cost([r.costs[phase] for r in adapters])
            for phase in adapters[0].costs
            if all(phase in r.costs for r in adapters)
        },
        losses=tuple(loss for r in done for loss in r.losses or ()) if done else None,
        variants=_variants(done),
        first_step=None,
        made_from=tuple(record.key for record in adapters),
        contributed=any(record.contributed for record in adapters),
        facts={"adapters": {r.spec.task: r.facts for r in adapters}},
        data={task: facts for r in adapters for task, facts in r.data.items()},
    )


def _cost(costs: Sequence[Cost]) -> Cost:
    """Return what a phase cost of all adapters, one after another: seconds and tokens add up, peaks do not."""
    names = [field.name for field in dataclasses.fields(Cost) if field.name not in ("meter", "ranks")]
    both = {n: _over([getattr(cost, n) for cost in costs], max if "peak" in n else sum) for n in names}
    meters = {cost.meter for cost in costs}
    return Cost(**both, meter=meters.pop() if len(meters) == 1 else None)


def _variants(records: Sequence[Record]) -> dict[str, dict[str, Score]] | None:
    """Return the scores of each variant of evaluation that every adapter has; None without one."""
    names = set.intersection(*(set(record.variants or {}) for record in records)) if records else set()
    return {
        name: {t: s for r in records for t, s in (r.variants or {})[name].items()} for name in sorted(names)
    } or None


def _parameters(counts: Sequence[Parameters]) -> Parameters | None:
    """Return the counts of all adapters together, the model they stand on counted once."""
    if not counts:
        return None
    sums = {f.name: _over([getattr(p, f.name) for p in counts], sum) for f in dataclasses.fields(Parameters)}
    added = [p.trainable if p.adapter_bytes is not None else 0 for p in counts]
    active = _over([p.active_per_token for p in counts], max)
    return Parameters(**{**sums, "total": counts[0].total - added[0] + sum(added), "active_per_token": active})


def _over(values: Sequence[Any], combine: Callable[[Sequence[Any]], Any]) -> Any:
    """Return None where one of the values is not known."""
    return None if None in values else combine(values)
