"""Budget arithmetic: an importance of layers, or of the components of blocks, becomes experts per block.

For an importance of blocks this is `smoe.allocate`. A budget is met exactly in experts; in parameters it is not
exceeded, and one more expert would exceed it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from baselines.sizes import Shapes
from smoe import Budget, BudgetError, block_params, place
from smoe.proportional import largest_remainder


def layers_of(shapes: Shapes) -> dict[int, list[str]]:
    """Sort blocks by layer. Raises ValueError for a block outside the layers."""
    layers: dict[int, list[str]] = {}
    for block in shapes:
        layer, _ = place(block)
        if layer is None:
            raise ValueError(f"{block} has no layer number in its name")
        layers.setdefault(layer, []).append(block)
    return dict(sorted(layers.items()))


def same_in_a_layer(per_layer: Mapping[int, int], shapes: Shapes) -> dict[str, int]:
    """Give every block the number of experts of its layer; blocks keep their order."""
    layer_of = {block: layer for layer, blocks in layers_of(shapes).items() for block in blocks}
    return {block: per_layer[layer_of[block]] for block in shapes}


def by_layer(weights: Mapping[int, float], budget: Budget, shapes: Shapes, r: int) -> dict[str, int]:
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
        return sum(block_params(shapes[b], n, r) for b, n in shared(total).items())

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


def by_component(ratios: Mapping[str, Sequence[float]], budget: Budget, shapes: Shapes, r: int) -> dict[str, int]:
    """Give a block an expert for each of its components that is among the largest of all blocks.

    Goes down the pooled list, largest first, ties by component and name, until the budget is spent. Raises BudgetError
    naming the nearest possible.
    ratios: block -> what each component explains, falling.
    """
    most = max(map(len, ratios.values()))
    pool = sorted((-ratio, i, b) for b, components in ratios.items() for i, ratio in enumerate(components))
    experts = dict.fromkeys(ratios, 0)
    spent = 0
    wanted = budget.total_experts or (budget.mean_experts or 0) * len(ratios)
    whole = round(wanted)
    if abs(wanted - whole) > 1e-6 * len(ratios) or whole > len(pool):
        raise BudgetError(
            f"{wanted:g} experts cannot be dealt to {len(ratios)} blocks with up to "
            f"{most} each; nearest possible: {min(whole, len(pool))}"
        )
    for _, _, block in pool:
        if budget.trainable_params is None:
            if sum(experts.values()) == whole:
                return experts
        else:
            now, more = (block_params(shapes[block], experts[block] + n, r) for n in (0, 1))
            spent += more - now
            if spent > budget.trainable_params:
                return experts
        experts[block] += 1
    if budget.trainable_params is not None:
        raise BudgetError(
            f"{budget.trainable_params} parameters cannot be spent on {len(ratios)} blocks with up to "
            f"{most} experts each; nearest possible: {spent}"
        )
    return experts
