"""LoRA-SMoE (arXiv 2505.06272): experts go to the blocks that the tasks' gradients say are sensitive.

Paper: per-task sensitivity of every block from a few samples, votes within attention and within MLP blocks, a budget.
The released configuration lets 60% of the blocks pass for each task; here the budget is a mean number of experts, 4 by
default (50% of the blocks with eight tasks, inside the paper's range of 40 to 80%), because uniform MoLoRA can have
exactly as many. The authors' tuner was never released; see smoe/ for what follows from that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from baselines.experts import ExpertMethod, Facts
from baselines.method import Probe
from smoe import Budget, allocate, block_shapes, sensitivity


@dataclass(frozen=True, kw_only=True)
class LoraSMoE(ExpertMethod):
    """Sensitivity, votes, budget, experts."""

    name: ClassVar[str] = "lora-smoe"
    summary: ClassVar[str] = "LoRA-SMoE: experts where the tasks' gradients are large"
    source: ClassVar[str] = "arXiv 2505.06272"

    mean_experts: float | None = 4.0  # budget: experts a block on average ...
    total_experts: int | None = None  # ... or over all blocks ...
    trainable_params: int | None = None  # ... or adapter parameters, routers included; one of the three
    rule: str = "votes"  # or "proportional"
    grouping: str = "attention-mlp"  # blocks ranked against each other: or type, attention, mlp, global
    mode: str = "paper"  # how sensitivity is measured: or "released"
    min_experts: int = 0  # of any block in the grouping
    max_experts: int | None = None

    def allocate(self, model: torch.nn.Module, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        measured = sensitivity(model, probe, target_modules=self.target_modules, mode=self.mode)
        experts = allocate(
            measured.scores,
            budget=Budget(
                mean_experts=self.mean_experts,
                total_experts=self.total_experts,
                trainable_params=self.trainable_params,
            ),
            rule=self.rule,
            grouping=self.grouping,
            min_experts=self.min_experts,
            max_experts=self.max_experts,
            shapes=block_shapes(model, self.target_modules),
            r=self.r,
        )
        return experts, {"sensitivity": measured.scores, "probe_samples": dict(measured.samples)}
