"""The proportional rule: experts in proportion to the tasks' normalised scores, by largest remainder, within bounds.

Source: ours; the largest remainder (Hamilton) method of apportionment with a lower and an upper bound per block.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping


def task_weights(scores: Mapping[str, Mapping[str, float]], groups: Mapping[str, list[str]]) -> dict[str, float]:
    """Sum over tasks of scores normalised to the group's share of blocks; a task without any signal is uniform."""
    count = sum(map(len, groups.values()))
    weights: dict[str, float] = {}
    for members in groups.values():
        sums = [0.0] * len(members)
        for task in scores.values():
            values = [task[b] for b in members]
            largest = max(values)
            # Divided by the largest first: a sum of tiny or huge scores must neither vanish nor overflow.
            scaled = [v / largest for v in values] if largest > 0 else [1.0] * len(members)
            share = len(members) / count / len(scores) / math.fsum(scaled)
            sums = [w + v * share for w, v in zip(sums, scaled, strict=True)]
        weights |= zip(members, sums, strict=True)
    # Far below any real share: a block without a score comes last, yet can be filled once all others are at the cap.
    return {b: max(w, 1e-15) for b, w in weights.items()}


def largest_remainder(weights: Mapping[str, float], total: int, low: int, cap: int | None) -> dict[str, int]:
    """Largest remainder on quotas clamp(x * weight, low, cap) with x such that they sum to `total`; ties by name."""
    shares = Shares(weights, low, cap)
    return dict(zip(shares.blocks, shares.experts(total), strict=True))


class Shares:
    """Weights and bounds, made ready once for any number of totals; lists are in the order of `blocks`, by name."""

    def __init__(self, weights: Mapping[str, float], low: int, cap: int | None) -> None:
        self.blocks = sorted(weights)
        self.weights = [weights[b] for b in self.blocks]
        self.low, self.cap = low, cap
        # The sum of clamp(x * weight, low, cap) is piecewise linear in x; here is where it bends.
        bends = [(low / w, w) for w in self.weights]
        if cap is not None:
            bends += [(cap / w, -w) for w in self.weights]
        self.bends, self.sums, self.slopes = [0.0], [float(low * len(weights))], [0.0]
        for x, change in sorted(bends):
            self.sums.append(self.sums[-1] + self.slopes[-1] * (x - self.bends[-1]))
            self.bends.append(x)
            self.slopes.append(self.slopes[-1] + change)

    def quotas(self, total: int) -> list[float]:
        """Shares of `total` before they are rounded."""
        i = max(bisect_left(self.sums, total) - 1, 0)
        x, slope = self.bends[i], self.slopes[i]
        if slope > 1e-18 and self.sums[i] < total:
            x += (total - self.sums[i]) / slope
        low, high = self.low, math.inf if self.cap is None else self.cap
        return [low if (q := x * w) < low else high if q > high else q for w in self.weights]

    def experts(self, total: int) -> list[int]:
        """Whole shares of `total`."""
        quotas = self.quotas(total)
        counts = [int(q + 1e-9) for q in quotas]
        if missing := total - sum(counts):
            # Rounded, so that remainders which are equal but for the last bits are a tie, which goes by name.
            owed = [round(e - q, 9) for e, q in zip(counts, quotas, strict=True)]
            order = sorted(range(len(counts)), key=owed.__getitem__)
            while missing > 0:
                for i in [i for i in order if self.cap is None or counts[i] < self.cap][:missing]:
                    counts[i] += 1
                    missing -= 1
        return counts


def proportional_within(
    weights: Mapping[str, float], limit: int, low: int, cap: int | None, params: Callable[[str, int], int]
) -> dict[str, int]:
    """Apportion as many experts as `limit` parameters pay for; what is left is less than the next expert costs.

    The next expert is that of the block furthest below its share of one more, whatever it costs: to spend the rest on
    cheaper blocks would give them more than their share rounded up.
    params: parameters of a block with so many experts; from the third on, each adds the same.
    """
    shares = Shares(weights, low, cap)
    prices = [[params(b, e) for e in range(4)] for b in shares.blocks]

    def price(of: list[int], experts: int) -> int:
        return of[experts] if experts < 3 else of[2] + (experts - 2) * (of[3] - of[2])

    def spent(counts: list[int]) -> int:
        return sum(map(price, prices, counts))

    fewest = low * len(prices)
    cheapest = min(of[e + 1] - of[e] for of in prices for e in range(3))
    affordable = limit // max(cheapest, 1)
    most = affordable if cap is None else min(affordable, cap * len(prices))
    while fewest < most:
        middle = (fewest + most + 1) // 2
        if spent(shares.experts(middle)) <= limit:
            fewest = middle
        else:
            most = middle - 1
    counts = shares.experts(fewest)
    left = limit - spent(counts)
    # One more expert may move others about (the Alabama paradox) and be too dear only for that.
    while open_blocks := [i for i, e in enumerate(counts) if cap is None or e < cap]:
        quotas = shares.quotas(sum(counts) + 1)
        behind = min(open_blocks, key=lambda i: round(counts[i] - quotas[i], 9))
        left -= price(prices[behind], counts[behind] + 1) - price(prices[behind], counts[behind])
        if left < 0:
            break
        counts[behind] += 1
    return dict(zip(shares.blocks, counts, strict=True))
