"""LoRA-SMoE (arXiv 2505.06272): experts go to the blocks that the tasks' gradients say are sensitive.

Paper: per-task sensitivity of every block from a few samples, votes within attention and within MLP blocks, a budget.
The released configuration lets 60% of the blocks pass for each task; here the budget is a mean number of experts, 4 by
default (50% of the blocks with eight tasks, inside the paper's range of 40 to 80%), because uniform MoLoRA can have
exactly as many. The authors' tuner was never released; see smoe/ for what follows from that.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from baselines.experts import Experts
from baselines.fields import CHECKED, in_one_sentence
from baselines.importance import Rule
from smoe.sensitivity import Mode


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LoraSMoE(Experts):
    """Sensitivity, votes, budget, experts."""

    name: ClassVar[str] = "lora-smoe"
    summary: ClassVar[str] = "LoRA-SMoE: experts where the tasks' gradients are large"
    source: ClassVar[str] = "arXiv 2505.06272"
    later: ClassVar[frozenset[str]] = Experts.later - {"rule", "grouping", "min_experts", "max_experts"}

    rule: Rule | None = "votes"
    mode: Mode = "paper"  # how sensitivity is measured

    @property
    def importance_name(self) -> str:
        released = self.mode == "released" and self.importance == "sensitivity"
        return "sensitivity-released" if released else self.importance
