"""Uniform MoLoRA (Zadouri et al. 2023, arXiv 2309.05444): the same number of experts in every block, soft routing.

There r = 4, alpha = 16, E = 10 and a router of N(0, 0.02); here the layer, ranks and initialisation of LoRA-SMoE, so
that the two differ in the allocation alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from baselines.experts import ExpertMethod, Facts
from baselines.method import Probe
from smoe import find_blocks


@dataclass(frozen=True, kw_only=True)
class MoLora(ExpertMethod):
    """E experts everywhere."""

    name: ClassVar[str] = "molora"
    summary: ClassVar[str] = "MoLoRA: the same number of experts in every block"
    source: ClassVar[str] = "arXiv 2309.05444"

    num_experts: int = 4  # in every block

    def __post_init__(self) -> None:
        if self.num_experts < 1:
            raise ValueError(f"molora: num_experts {self.num_experts} must be at least 1")

    def allocate(self, model: torch.nn.Module, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        return dict.fromkeys(find_blocks(model, self.target_modules), self.num_experts), {}
