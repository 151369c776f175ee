"""A model's linear blocks alone, with random weights, to try a tuner on; and the search for a size by such trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from baselines.sizes import Shapes
from smoe.blocks import place

SEARCH = 4096  # times the usual size, and a share of it, within which a size is looked for


def of_shapes(shapes: Shapes) -> torch.nn.Module:
    """Return a module with a linear layer of each shape (in, out) under its whole name."""
    root = torch.nn.Module()
    for block, (inputs, outputs) in shapes.items():
        *path, last = block.split(".")
        here = root
        for part in path:
            if part not in dict(here.named_children()):
                here.add_module(part, torch.nn.Module())
            here = here.get_submodule(part)
        here.add_module(last, torch.nn.Linear(inputs, outputs, bias=False))
    return root.requires_grad_(False)


def layers(shapes: Shapes) -> int:
    """Count the layers in which the blocks lie."""
    return len({place(block)[0] for block in shapes})


def of_layers(shapes: Shapes, number: int) -> Mapping[str, tuple[int, int]]:
    """Return the blocks of the first `number` layers."""
    first = list(dict.fromkeys(place(block)[0] for block in shapes))[:number]
    return {block: shape for block, shape in shapes.items() if place(block)[0] in first}


def nearest(params: Callable[[int], int | None], usual: int, target: int) -> int | None:
    """Return the value whose size is nearest to `target`, by bisection from the usual one; None where none is known.

    params: size at a value, growing or falling with it; None where the tuner refuses the value.
    """
    while (size := params(usual)) is None and usual > 1:
        usual //= 2
    known = {usual: size} if size is not None else {}
    for direction in (2.0, 0.5):  # further and further, until the target lies between two values
        value = usual
        while 1 <= (value := round(value * direction)) <= SEARCH * usual:
            if (size := params(value)) is None:
                break
            known[value] = size
            if min(known.values()) <= target <= max(known.values()):
                break
            if value == 1:
                break
    while True:
        below = [v for v, size in known.items() if size <= target]
        above = [v for v, size in known.items() if size > target]
        pair = min(((abs(a - b), a, b) for a in below for b in above), default=(0, 0, 0))
        middle = (pair[1] + pair[2]) // 2
        if pair[0] < 2 or middle in known or (size := params(middle)) is None:
            break
        known[middle] = size
    return min(known, key=lambda v: (abs(known[v] - target), v), default=None)
