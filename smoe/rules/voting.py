"""The rule of votes: a block gets an expert for each task that ranks it high enough. See `smoe.allocation`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping


def ranked(task: Mapping[str, float], members: list[str]) -> list[str]:
    """Sort the most sensitive first; `members` are sorted by name and the sort is stable, so ties go by name."""
    return sorted(members, key=task.__getitem__, reverse=True)


def vote_order(scores: Mapping[str, Mapping[str, float]], groups: Mapping[str, list[str]]) -> Iterator[list[str]]:
    """Yield the votes in tiers of equal rank fraction j / (n - 1), best first; within a tier by block name."""
    orders = [(members, [ranked(task, members) for task in scores.values()]) for members in groups.values()]
    slots: dict[float, list[tuple[int, int]]] = {}
    for g, (members, _) in enumerate(orders):
        for j in range(len(members)):
            slots.setdefault(j / max(len(members) - 1, 1), []).append((g, j))
    for fraction in sorted(slots):
        yield sorted(order[j] for g, j in slots[fraction] for order in orders[g][1])


def grant_votes(
    scores: Mapping[str, Mapping[str, float]],
    groups: Mapping[str, list[str]],
    low: int,
    cap: int,
    total: int | None,
    cost: tuple[int, Callable[[str, int], int]] | None,
) -> dict[str, int]:
    """Grant votes in order until `total` experts, or until the next expert would exceed the cost (limit, params)."""
    experts = {b: low for members in groups.values() for b in members}
    cast = dict.fromkeys(experts, 0)
    left = math.inf if total is None else total - low * len(experts)
    spent = sum(cost[1](b, low) for b in experts) if cost else 0
    for tier in vote_order(scores, groups):
        for block in tier:
            cast[block] += 1
            # The first `low` votes of a block confirm experts that it already has.
            if cast[block] <= low or experts[block] >= cap:
                continue
            if left <= 0:
                return experts
            if cost:
                spent += cost[1](block, experts[block] + 1) - cost[1](block, experts[block])
                if spent > cost[0]:
                    return experts
            experts[block] += 1
            left -= 1
    return experts
