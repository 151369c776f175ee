"""MoLA (Gao et al. 2024, arXiv 2402.08562): experts by layer alone, in a shape over the quarters of the model.

There 32 layers in four groups of eight, r 8, alpha 16, top-2 routing with the chosen gates divided by their sum, which
are the defaults here as well. Where the number of layers is no multiple of four, layer l of L belongs to quarter
4 l / L, rounded down. With a budget the shape is kept and its numbers are scaled: largest remainder over the layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from baselines.budgeted import Allocator, by_layer, layers_of, same_in_a_layer
from baselines.experts import Facts
from baselines.method import Probe
from smoe import block_shapes

SHAPES: Mapping[str, tuple[int, int, int, int]] = {  # experts of a block in each quarter, from the input upwards
    "inverted-triangle": (2, 4, 6, 8),
    "triangle": (8, 6, 4, 2),
    "hourglass": (8, 2, 2, 8),
    "diamond": (2, 8, 8, 2),
    "rectangle": (5, 5, 5, 5),
}


@dataclass(frozen=True, kw_only=True)
class Mola(Allocator):
    """More experts in some quarters of the model than in others."""

    name: ClassVar[str] = "mola"
    summary: ClassVar[str] = "MoLA: experts by layer quarter, more towards the output"
    source: ClassVar[str] = "arXiv 2402.08562"

    shape: str = "inverted-triangle"  # or triangle, hourglass, diamond, rectangle
    top_k: int | None = 2  # experts a token uses; none: all, softly
    mean_experts: float | None = None  # budget: at most one of the three; none: the shape's own numbers, mean 5

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"mola: shape {self.shape!r} is not one of {', '.join(SHAPES)}")
        if self._unbudgeted():
            super(Allocator, self).__post_init__()
        else:
            super().__post_init__()

    def check(self, model: torch.nn.Module, tasks: Sequence[str], total_steps: int) -> None:
        self.allocate(model, {})

    def allocate(self, model: torch.nn.Module, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        shapes = block_shapes(model, self.target_modules)
        layers = list(layers_of(shapes))
        experts = {layer: SHAPES[self.shape][4 * i // len(layers)] for i, layer in enumerate(layers)}
        if self._unbudgeted():
            return same_in_a_layer(experts, shapes), {}
        return by_layer(experts, self.budget, shapes, self.r), {}

    def _unbudgeted(self) -> bool:
        return self.mean_experts is None and self.total_experts is None and self.trainable_params is None
