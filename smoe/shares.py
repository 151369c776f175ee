"""The proportional rule: experts in proportion to the tasks' normalised scores, by largest remainder, within bounds.

Source: ours; the largest remainder (Hamilton) method of apportionment with a lower and an upper bound per block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping


def task_weights(scores: Mapping[str, Mapping[str, float]], groups: Mapping[str, list[str]]) -> dict[str, float]:
    """Sum over tasks of scores normalised to the group's share of blocks; a task without any signal is uniform."""
    count = sum(map(len, groups.values()))
    weights: dict[str, float] = {}
    for members in groups.values():
        for block in members:
            weights[block] = 0.0
        for task in scores.values():
            largest = max(task[b] for b in members)
            # Divided by the largest first: a sum of tiny or huge scores must neither vanish nor overflow.
            scaled = [task[b] / largest if largest > 0 else 1.0 for b in members]
            share = len(members) / count / len(scores) / math.fsum(scaled)
            for block, value in zip(members, scaled, strict=True):
                weights[block] += value * share
    # Far below any real share: a block without a score comes last, yet can be filled once all others are at the cap.
    return {b: max(w, 1e-15) for b, w in weights.items()}


def largest_remainder(weights: Mapping[str, float], total: int, low: int, cap: int | None) -> dict[str, int]:
    """Largest remainder on quotas clamp(x * weight, low, cap) with x such that they sum to `total`; ties by name."""
    high = total if cap is None else cap
    quota = clamped_quotas(weights, total, low, high)
    given = {b: min(max(math.floor(q + 1e-9), low), high) for b, q in quota.items()}
    # Rounded, so that remainders which are equal but for the last bits are a tie, which goes by name.
    order = sorted(quota, key=lambda b: (round(given[b] - quota[b], 9), b))
    while (missing := total - sum(given.values())) > 0:
        open_blocks = [b for b in order if given[b] < high]
        for block in open_blocks[:missing]:
            given[block] += 1
    return given


def clamped_quotas(weights: Mapping[str, float], total: int, low: int, high: int) -> dict[str, float]:
    """Walk the piecewise linear sum of clamp(x * weight, low, high) up to `total`."""
    bends = sorted([(low / w, w) for w in weights.values()] + [(high / w, -w) for w in weights.values()])
    x, slope, reached = 0.0, 0.0, float(low * len(weights))
    for bend, change in bends:
        if slope > 0 and reached + slope * (bend - x) >= total:
            break
        reached += slope * (bend - x)
        x, slope = bend, slope + change
    if slope > 1e-18 and reached < total:
        x += (total - reached) / slope
    return {b: min(max(x * w, low), high) for b, w in weights.items()}


def proportional_within(
    weights: Mapping[str, float], limit: int, low: int, cap: int | None, params: Callable[[str, int], int]
) -> dict[str, int]:
    """Apportion as many experts as `limit` parameters pay for; what is left is less than the next expert costs.

    The next expert is that of the block furthest below its share of one more, whatever it costs: to spend the rest on
    cheaper blocks would give them more than their share rounded up.
    """

    def spent(given: Mapping[str, int]) -> int:
        return sum(params(b, e) for b, e in given.items())

    fewest = low * len(weights)
    affordable = limit // max(min(params(b, 2) - params(b, 1) for b in weights), 1) + len(weights)
    most = affordable if cap is None else min(affordable, cap * len(weights))
    while fewest < most:
        middle = (fewest + most + 1) // 2
        if spent(largest_remainder(weights, middle, low, cap)) <= limit:
            fewest = middle
        else:
            most = middle - 1
    given = largest_remainder(weights, fewest, low, cap)
    left = limit - spent(given)
    # One more expert may move others about (the Alabama paradox) and be too dear only for that.
    while open_blocks := [b for b in weights if cap is None or given[b] < cap]:
        total = sum(given.values()) + 1
        quota = clamped_quotas(weights, total, low, total if cap is None else cap)
        behind = min(open_blocks, key=lambda b: (round(given[b] - quota[b], 9), b))
        left -= params(behind, given[behind] + 1) - params(behind, given[behind])
        if left < 0:
            break
        given[behind] += 1
    return given
