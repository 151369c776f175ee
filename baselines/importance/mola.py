"""MoLA's importance of a layer (Gao et al. 2024, arXiv 2402.08562): a shape over the depth, nothing is measured.

There 32 layers in four groups of eight. Where the number of layers is no multiple of four, layer l of L belongs to
quarter 4 l / L, rounded down. The importances are called "mola-" and the shape's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch

from baselines.importance import Importance, Measured, Rule, layers_of, same_for_all, same_in_a_layer
from smoe import Probe

Shape = Literal["inverted-triangle", "triangle", "hourglass", "diamond", "rectangle"]
SHAPES: Mapping[Shape, tuple[int, int, int, int]] = {  # experts of a block in each quarter, from the input upwards
    "inverted-triangle": (2, 4, 6, 8),
    "triangle": (8, 6, 4, 2),
    "hourglass": (8, 2, 2, 8),
    "diamond": (2, 8, 8, 2),
    "rectangle": (5, 5, 5, 5),
}


def layer_shape(shape: Shape, layers: Sequence[int]) -> dict[int, int]:
    """Return each layer's number in that shape; `layers` in their order from the input upwards."""
    return {layer: SHAPES[shape][4 * i // len(layers)] for i, layer in enumerate(layers)}


class _Mola(Importance):
    """The shape's number in a block's layer."""

    source: ClassVar[str] = "arXiv 2402.08562"
    rule: ClassVar[Rule] = "layers"
    shape: ClassVar[Shape]

    def measure(
        self, model: torch.nn.Module, blocks: Mapping[str, torch.nn.Module], probe: Probe, most: int, seed: int | None
    ) -> Measured:
        numbers = same_in_a_layer(layer_shape(self.shape, list(layers_of(blocks))), blocks)
        return Measured(same_for_all({block: float(number) for block, number in numbers.items()}, probe))


class InvertedTriangle(_Mola):
    """2-4-6-8."""

    name: ClassVar[str] = "mola-inverted-triangle"
    summary: ClassVar[str] = "more towards the output, 2-4-6-8 by quarter of the depth"
    shape: ClassVar[Shape] = "inverted-triangle"


class Triangle(_Mola):
    """8-6-4-2."""

    name: ClassVar[str] = "mola-triangle"
    summary: ClassVar[str] = "more towards the input, 8-6-4-2 by quarter of the depth"
    shape: ClassVar[Shape] = "triangle"


class Hourglass(_Mola):
    """8-2-2-8."""

    name: ClassVar[str] = "mola-hourglass"
    summary: ClassVar[str] = "more at both ends, 8-2-2-8 by quarter of the depth"
    shape: ClassVar[Shape] = "hourglass"


class Diamond(_Mola):
    """2-8-8-2."""

    name: ClassVar[str] = "mola-diamond"
    summary: ClassVar[str] = "more in the middle, 2-8-8-2 by quarter of the depth"
    shape: ClassVar[Shape] = "diamond"


class Rectangle(_Mola):
    """5-5-5-5."""

    name: ClassVar[str] = "mola-rectangle"
    summary: ClassVar[str] = "the same in every layer"
    shape: ClassVar[Shape] = "rectangle"
