"""MoLA (Gao et al. 2024, arXiv 2402.08562): experts by layer alone, in a shape over the quarters of the model.

There r 8, alpha 16, top-2 routing with the chosen gates divided by their sum, which are the defaults here as well; the
shapes are in baselines/importance/layer_shapes.py. With a budget the shape is kept and its numbers are scaled: largest
remainder over the layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass

from baselines.budgets import by_layer, layers_of, same_in_a_layer
from baselines.experts import Allocator, Facts
from baselines.fields import CHECKED, Positive, in_one_sentence
from baselines.importance.layer_shapes import Shape, layer_shape
from smoe import Probe, block_shapes


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Mola(Allocator):
    """More experts in some quarters of the model than in others."""

    name: ClassVar[str] = "mola"
    summary: ClassVar[str] = "MoLA: experts by layer quarter, more towards the output"
    source: ClassVar[str] = "arXiv 2402.08562"
    needs_budget: ClassVar[bool] = False

    shape: Shape = "inverted-triangle"  # of the numbers over the quarters of the depth
    top_k: Positive[int] | None = 2  # experts a token uses; none: all, softly
    mean_experts: Positive[float] | None = None  # budget: at most one of three; none: the shape's, mean 5

    def check(self, model: torch.nn.Module, tasks: Sequence[str], total_steps: int) -> None:
        self.allocate(model, {})

    def allocate(self, model: torch.nn.Module, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        shapes = block_shapes(model, self.target_modules)
        experts = layer_shape(self.shape, list(layers_of(shapes)))
        if not self.has_budget:
            return same_in_a_layer(experts, shapes), {}
        return by_layer(experts, self.budget, shapes, self.r), {}
