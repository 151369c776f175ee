"""LoRA-SMoE (arXiv 2505.06272): experts go to the blocks that the tasks' gradients say are sensitive.

Paper: per-task sensitivity of every block from a few samples, votes within attention and within MLP blocks, a budget.
The released configuration lets 60% of the blocks pass for each task; here the budget is a mean number of experts, 4 by
default (50% of the blocks with eight tasks, inside the paper's range of 40 to 80%), because uniform MoLoRA can have
exactly as many. The authors' tuner was never released; see smoe/ for what follows from that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass

from baselines.experts import Allocator, Facts
from baselines.fields import CHECKED, NotNegative, Positive, in_one_sentence
from baselines.method import Method
from baselines.sizes import Shapes, nearest_rank, own_shapes
from smoe import BudgetError, Probe, allocate, block_params, block_shapes, find_blocks, grouped, sensitivity
from smoe.allocation import Grouping, Rule
from smoe.sensitivity import Mode


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LoraSMoE(Allocator):
    """Sensitivity, votes, budget, experts."""

    name: ClassVar[str] = "lora-smoe"
    summary: ClassVar[str] = "LoRA-SMoE: experts where the tasks' gradients are large"
    source: ClassVar[str] = "arXiv 2505.06272"

    rule: Rule = "votes"
    grouping: Grouping = "attention-mlp"  # blocks ranked against each other
    mode: Mode = "paper"  # how sensitivity is measured
    min_experts: NotNegative[int] = 0  # of any block in the grouping
    max_experts: Positive[int] | None = None

    def check(self, model: torch.nn.Module, tasks: Sequence[str], total_steps: int) -> None:
        even = dict.fromkeys(find_blocks(model, self.target_modules), 1.0)
        try:  # whether a budget can be met does not depend on the scores
            self._allocation(model, dict.fromkeys(tasks, even))
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}{self._budget_hint(error, tasks)}") from error

    def _budget_hint(self, error: ValueError, tasks: Sequence[str]) -> str:
        """Say what to ask for instead where votes are too few for the budget, as they are with a task alone."""
        wanted, most = self.mean_experts or 0, max(len(tasks), self.min_experts)
        if self.rule != "votes" or self.max_experts is not None or not isinstance(error, BudgetError) or wanted <= most:
            return ""
        return (
            f". A block has one vote of each task that is trained with the others, here {len(tasks)}: ask for "
            f"{self.name}:mean_experts={most} or fewer, or {self.name}:rule=proportional, which has no such bound"
        )

    def allocate(self, model: torch.nn.Module, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        measured = sensitivity(model, probe, target_modules=self.target_modules, mode=self.mode)
        facts = {"sensitivity": measured.scores, "probe_samples": dict(measured.samples)}
        return self._allocation(model, measured.scores), facts

    def _allocation(self, model: torch.nn.Module, scores: Mapping[str, Mapping[str, float]]) -> Mapping[str, int]:
        return allocate(
            scores,
            budget=self.budget,
            rule=self.rule,
            grouping=self.grouping,
            min_experts=self.min_experts,
            max_experts=self.max_experts,
            shapes=block_shapes(model, self.target_modules),
            r=self.r,
        )

    def matched(self, target_params: int, shapes: Shapes) -> Method:
        """Fit a budget in parameters; a grouping that leaves blocks out takes a larger rank, not more experts."""
        sized = super().matched(target_params, shapes)
        targets = own_shapes(shapes, self.target_modules)
        inside = {b for members in grouped(list(targets), self.grouping).values() for b in members}
        if len(inside) == len(targets):
            return sized
        each = round(self.mean_experts or (self.total_experts or 4 * len(inside)) / len(inside)) or 1
        r = nearest_rank(lambda r: sum(block_params(targets[b], each, r) for b in inside), target_params)
        return replace(sized, r=r)  # type: ignore[call-arg]  # of this class
