"""MoLA's importance of a layer (Gao et al. 2024, arXiv 2402.08562): a shape over the depth, nothing is measured.

There 32 layers in four groups of eight. Where the number of layers is no multiple of four, layer l of L belongs to
quarter 4 l / L, rounded down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

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
