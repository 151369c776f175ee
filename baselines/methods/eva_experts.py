"""Experts by EVA's importance (Paischer et al. 2024): the share of its inputs' variance that each component explains.

EVA pools the components of all blocks and gives ranks to the largest. Here the same list places experts: one for each
component that makes it. Departure: EVA's ranks / experts of full rank, with LoRA's initialisation, since the layer is
the same for every allocator. How the importance is measured: baselines/importance/eva.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass

from baselines.budgets import by_component
from baselines.experts import Allocator, Facts
from baselines.fields import CHECKED, Positive, in_one_sentence
from baselines.importance.eva import explained_variance
from baselines.sizes import Shapes
from smoe import BudgetError, Probe, block_shapes, find_blocks


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class EvaExperts(Allocator):
    """An expert for every principal component of a block's inputs that explains enough."""

    name: ClassVar[str] = "eva-experts"
    summary: ClassVar[str] = "EVA's explained variance of block inputs, turned into experts"
    source: ClassVar[str] = "arXiv 2410.07170, PEFT"

    max_experts: Positive[int] = 8  # of any block, hence components looked at; as many as eight tasks can vote for

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mean_experts is not None and self.mean_experts > self.max_experts:
            raise ValueError(f"{self.name}: mean_experts {self.mean_experts} is above max_experts {self.max_experts}")

    def check(self, model: torch.nn.Module, tasks: Sequence[str], total_steps: int) -> None:
        shapes = block_shapes(model, self.target_modules)
        self._spend({b: [1.0] * min(self.max_experts, shape[0]) for b, shape in shapes.items()}, shapes)

    def allocate(self, model: torch.nn.Module, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        ratios = explained_variance(model, find_blocks(model, self.target_modules), probe, self.max_experts)
        return self._spend(ratios, block_shapes(model, self.target_modules)), {"explained_variance": ratios}

    def _spend(self, ratios: Mapping[str, Sequence[float]], shapes: Shapes) -> dict[str, int]:
        try:
            return by_component(ratios, self.budget, shapes, self.r)
        except BudgetError as error:
            raise BudgetError(f"{self.name}: {error}") from error
