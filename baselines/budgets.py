"""Budget arithmetic: an importance becomes units per block, which are experts or ranks, under one budget.

    votes          a unit for every task that ranks the block among its most important (smoe.allocate)
    proportional   largest remainder on the tasks' normalised importances (smoe.allocate)
    greedy         one unit after the other: to the largest component of all blocks, where an importance has components,
                   else by highest averages (importance / (units + 1), Jefferson and D'Hondt)
    layers         largest remainder over the layers, at least one unit in every block and blocks of a layer alike

A budget is met exactly in units; in parameters it is not exceeded, and one more unit would exceed it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from baselines.importance import Measured, Rule, Scores, layers_of, same_in_a_layer
from baselines.sizes import Shapes
from smoe import Budget, BudgetError, allocate, block_params, grouped
from smoe.rules.proportional import largest_remainder, task_weights

CLOSE = 0.005  # of a budget in parameters: how near numbers that are dealt to other blocks have to come to it
TRIES = 100_000  # exchanges looked at before giving up
Price = Callable[[tuple[int, int], int], int]  # (in, out) of a block, units -> parameters


@dataclass(frozen=True)
class Unit:
    """What is handed out: a unit brings rank `r` to a block, and a trained router's row where there is one.

    router: whether there is one, or its name where it has more than a row for each unit.
    """

    r: int
    share_A: bool = False
    router: bool | str = True

    def price(self, shape: tuple[int, int], units: int) -> int:
        """Parameters of a block (in, out) with so many units."""
        return block_params(shape, units, self.r, self.share_A, self.router)


def spend(
    measured: Measured,
    rule: Rule,
    budget: Budget,
    shapes: Shapes,
    unit: Unit,
    *,
    grouping: str = "attention-mlp",
    low: int = 0,
    cap: int | None = None,
    beta: float = 1.0,
) -> dict[str, int]:
    """Return units per block, in the order of the scores.

    low, cap: bounds of every block of the grouping; beta: power that importances are raised to first. Raises
    BudgetError naming the nearest budget that can be met.
    """
    scores = measured.scores
    if beta != 1 and rule != "layers":
        scores = {task: {b: s**beta for b, s in by_block.items()} for task, by_block in scores.items()}
    if rule in ("votes", "proportional"):
        return allocate(
            scores, budget=budget, rule=rule, grouping=grouping, min_experts=low, max_experts=cap, shapes=shapes,
            r=unit.r, share_A=unit.share_A, router=unit.router,
        )  # fmt: skip
    if rule == "layers":
        if low > 1 or cap is not None:
            raise ValueError(f"rule layers gives every block at least one and knows no bounds, got {low}..{cap}")
        first = next(iter(scores.values()))
        blocks = {b: statistics.fmean(by_block[b] for by_block in scores.values()) for b in first}
        means = {layer: statistics.fmean(blocks[b] for b in names) for layer, names in layers_of(first).items()}
        weights = {layer: mean**beta for layer, mean in means.items()}
        return by_layer(weights, budget, {b: shapes[b] for b in first}, unit.price)
    components = measured.components or _averages(scores, grouping, cap or _most(budget, shapes, unit))
    units = by_component(components, budget, shapes, unit.price, low)
    return {b: units.get(b, 0) for b in next(iter(scores.values()))}


def _averages(scores: Scores, grouping: str, cap: int) -> dict[str, list[float]]:
    """Return what each further unit of a block counts: its share of all importance over the units it then has."""
    weights = task_weights(scores, grouped(list(next(iter(scores.values()))), grouping))
    return {b: [weight / (n + 1) for n in range(cap)] for b, weight in weights.items()}


def _most(budget: Budget, shapes: Shapes, unit: Unit) -> int:
    """Return more units than a block could get if it got them all."""
    if budget.trainable_params is not None:
        return budget.trainable_params // min(unit.price(shape, 1) for shape in shapes.values()) + 1
    return round(budget.total_experts or (budget.mean_experts or 0) * len(shapes))


def reversed_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """Return the same values in the reversed order: the most important block gets the smallest value, and so on."""
    ranking = sorted(scores, key=scores.__getitem__)
    backwards = {block: scores[other] for block, other in zip(ranking, reversed(ranking), strict=True)}
    return {block: backwards[block] for block in scores}


def shuffled(
    units: Mapping[str, int],
    inside: Sequence[str],
    shapes: Shapes,
    price: Price,
    target_params: int | None,
    seed: int | None,
) -> dict[str, int]:
    """Deal the same numbers to the blocks `inside` at random; seed None: from torch's global generator.

    Blocks differ in size, so chance does not meet a budget in parameters: with one, two blocks at a time change places
    until it is met within half a percent. Raises BudgetError where no arrangement comes near enough.
    """
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    dealt = dict(units)
    for block, i in zip(inside, torch.randperm(len(inside), generator=generator).tolist(), strict=True):
        dealt[block] = units[inside[i]]
    if target_params is not None:
        _exchange(dealt, inside, shapes, price, target_params, generator)
    return dealt


def _exchange(
    units: dict[str, int],
    blocks: Sequence[str],
    shapes: Shapes,
    price: Price,
    target: int,
    generator: torch.Generator | None,
) -> None:
    """Let random pairs of `blocks` change places, in place, where that brings the parameters nearer to `target`."""
    off = sum(price(shapes[b], n) for b, n in units.items()) - target
    for _ in range(TRIES):
        if abs(off) <= CLOSE * target:
            return
        a, b = (blocks[i] for i in torch.randint(len(blocks), (2,), generator=generator).tolist())
        had, gets = units[a], units[b]
        change = price(shapes[a], gets) - price(shapes[a], had) + price(shapes[b], had) - price(shapes[b], gets)
        if abs(off + change) < abs(off):
            units[a], units[b], off = gets, had, off + change
    raise BudgetError(f"no arrangement of these numbers with {target} parameters was found; nearest: {target + off}")


def by_layer(weights: Mapping[int, float], budget: Budget, shapes: Shapes, price: Price) -> dict[str, int]:
    """Give all blocks of a layer the same number of experts, at least one, in proportion to the layer's weight.

    Largest remainder over the layers, ties to the lower layer. The budget is met exactly in experts; in parameters it
    is not exceeded, and one more expert in a layer would exceed it. Raises BudgetError naming the nearest possible.
    """
    layers = layers_of(shapes)
    widths = {len(blocks) for blocks in layers.values()}
    if len(widths) > 1:
        raise BudgetError(f"layers differ in their number of blocks ({', '.join(map(str, sorted(widths)))})")
    (width,) = widths
    named = {f"{layer:06}": weights[layer] for layer in layers}

    def shared(total: int) -> dict[str, int]:
        counts = largest_remainder(named, total, 1, None)
        return same_in_a_layer({int(layer): n for layer, n in counts.items()}, shapes)

    if budget.trainable_params is None:
        wanted = budget.total_experts or (budget.mean_experts or 0) * len(shapes)
        total = round(wanted / width)
        if abs(total * width - wanted) > 1e-6 * len(shapes) or total < len(layers):
            near = {max(n, len(layers)) * width for n in (int(wanted // width), int(-(-wanted // width)))}
            raise BudgetError(
                f"{wanted:g} experts cannot be shared out over {len(layers)} layers of {width} blocks, all blocks of a "
                f"layer alike and none without; nearest possible: {' or '.join(map(str, sorted(near)))}"
            )
        return shared(total)

    def spent(total: int) -> int:
        return sum(price(shapes[b], n) for b, n in shared(total).items())

    least = spent(len(layers))
    if least > budget.trainable_params:
        raise BudgetError(f"one expert everywhere takes {least} parameters, more than {budget.trainable_params}")
    low, high = len(layers), 2 * len(layers)
    while spent(high) <= budget.trainable_params:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if spent(middle) <= budget.trainable_params else (low, middle)
    return shared(low)


def by_component(
    ratios: Mapping[str, Sequence[float]], budget: Budget, shapes: Shapes, price: Price, low: int = 0
) -> dict[str, int]:
    """Give a block a unit for each of its components that is among the largest of all blocks, and at least `low`.

    Goes down the pooled list, largest first, ties by component and name, until the budget is spent. Raises BudgetError
    naming the nearest possible.
    ratios: block -> what each component counts, falling.
    """
    most = max(map(len, ratios.values()))
    pool = sorted((-r, i, b) for b, components in ratios.items() for i, r in enumerate(components) if i >= low)
    units = {block: min(low, len(components)) for block, components in ratios.items()}
    spent = sum(price(shapes[block], n) for block, n in units.items())
    wanted = budget.total_experts or (budget.mean_experts or 0) * len(ratios)
    whole, least = round(wanted), sum(units.values())
    possible = budget.trainable_params is not None or least <= whole <= len(pool) + least
    if abs(wanted - whole) > 1e-6 * len(ratios) or not possible:
        raise BudgetError(
            f"{wanted:g} experts cannot be dealt to {len(ratios)} blocks with up to "
            f"{most} each; nearest possible: {max(min(whole, len(pool) + least), least)}"
        )
    for _, _, block in pool:
        if budget.trainable_params is None:
            if sum(units.values()) >= whole:
                return units
        else:
            now, more = (price(shapes[block], units[block] + n) for n in (0, 1))
            spent += more - now
            if spent > budget.trainable_params:
                return units
        units[block] += 1
    if budget.trainable_params is not None:
        raise BudgetError(
            f"{budget.trainable_params} parameters cannot be spent on {len(ratios)} blocks with up to "
            f"{most} experts each; nearest possible: {spent}"
        )
    return units
