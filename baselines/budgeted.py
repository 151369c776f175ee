"""Allocators: (model, probe, budget) -> experts per block. What those share that hand out experts unevenly.

The budget is three fields, of which one is set; the layer is that of every mixture, so two allocators differ in where
experts go and in nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from baselines.experts import ExpertMethod
from baselines.method import Method
from baselines.sizes import Shapes
from smoe import Budget, BudgetError, block_params
from smoe.proportional import largest_remainder


@dataclass(frozen=True, kw_only=True)
class Allocator(ExpertMethod):
    """A mixture whose experts are handed out under a budget."""

    mean_experts: float | None = 4.0  # budget: experts a block on average ...
    total_experts: int | None = None  # ... or over all blocks ...
    trainable_params: int | None = None  # ... or adapter parameters, routers included; one of the three

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            self.budget  # noqa: B018  # made to be checked
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error

    @property
    def budget(self) -> Budget:
        return Budget(
            mean_experts=self.mean_experts, total_experts=self.total_experts, trainable_params=self.trainable_params
        )

    def matched(self, target_params: int, shapes: Shapes) -> Method:
        self._leave_budget_to_match()
        return replace(self, mean_experts=None, total_experts=None, trainable_params=target_params)

    def matched_experts(self, total: int, shapes: Shapes) -> Method:
        self._leave_budget_to_match()
        return replace(self, mean_experts=None, total_experts=total, trainable_params=None)

    def _leave_budget_to_match(self) -> None:
        """Raise ValueError for a budget of one's own, which would be overruled without a word."""
        for name in ("mean_experts", "total_experts", "trainable_params"):
            if (asked := getattr(self, name)) != getattr(type(self), name):
                raise ValueError(f"{self.name}: --match sets the budget; leave it out, or {name}={asked}")


def layers_of(shapes: Shapes) -> dict[int, list[str]]:
    """Sort blocks by layer, the first number in a block's name. Raises ValueError for a block outside the layers."""
    layers: dict[int, list[str]] = {}
    for block in shapes:
        found = re.search(r"(?:^|\.)(\d+)\.", block)
        if found is None:
            raise ValueError(f"{block} has no layer number in its name")
        layers.setdefault(int(found[1]), []).append(block)
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
