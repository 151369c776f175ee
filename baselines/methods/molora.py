"""Uniform MoLoRA (Zadouri et al. 2023, arXiv 2309.05444): the same number of experts in every block, soft routing.

There r = 4, alpha = 16, E = 10 and a router of N(0, 0.02); here the layer, ranks and initialisation of LoRA-SMoE, so
that the two differ in the allocation alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass

from baselines.allocator import Facts
from baselines.experts import ExpertMethod
from baselines.fields import CHECKED, Positive, in_one_sentence
from baselines.method import Method
from baselines.sizes import TOLERANCE, Shapes, nearest_rank, own_shapes, require_within, residual
from smoe import Probe, block_params, find_blocks


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class MoLora(ExpertMethod):
    """E experts everywhere."""

    name: ClassVar[str] = "molora"
    summary: ClassVar[str] = "MoLoRA: the same number of experts in every block"
    source: ClassVar[str] = "arXiv 2309.05444"

    num_experts: Positive[int] = 4  # in every block

    @property
    def experts_everywhere(self) -> int:
        return self.num_experts

    def allocate(self, model: torch.nn.Module, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        return dict.fromkeys(find_blocks(model, self.target_modules), self.num_experts), {}

    def matched(self, target_params: int, shapes: Shapes) -> Method:
        """Take the nearest setting, by ratio, of experts and rank together: either alone moves in large steps."""
        targets = own_shapes(shapes, self.target_modules)

        def params(experts: int, r: int) -> int:
            blocks = sum(block_params(s, experts, r, self.share_A, self.expert.router) for s in targets.values())
            return blocks + (self.shared_params(targets) if experts > 1 else 0)

        def distance(setting: tuple[int, int]) -> tuple[bool, float]:
            off = abs(residual(params(*setting), target_params))
            near = abs(math.log(setting[0] / self.num_experts)) + abs(math.log(setting[1] / self.r))
            return off > TOLERANCE, off if off > TOLERANCE else near

        candidates = []
        for experts in range(1, 4 * self.num_experts + 1):
            candidates.append((experts, nearest_rank(partial(params, experts), target_params)))
            candidates.append((experts, self.r))
        experts, r = min(candidates, key=distance)
        require_within(self.name, f"num_experts={experts}, r={r}", params(experts, r), target_params)
        return replace(self, num_experts=experts, r=r)  # alpha stays, and with it the size of a step

    def matched_experts(self, total: int, shapes: Shapes) -> Method:
        blocks = len(own_shapes(shapes, self.target_modules))
        if total % blocks or total < blocks:
            near = sorted({max(total // blocks, 1) * blocks, -(-total // blocks) * blocks})
            raise ValueError(
                f"{self.name}: {total} experts are no whole number for each of {blocks} blocks; nearest possible: "
                f"{' or '.join(map(str, near))}"
            )
        return replace(self, num_experts=total // blocks)
