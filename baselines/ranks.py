"""Ranks as currency: PEFT's LoRA with another rank in every block, under the budget arithmetic of the experts.

y = W x + (alpha_b / r_b) B A x, A and B of rank r_b. A block of rank 0 has no adapter (PEFT refuses the rank 0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from peft import LoraConfig, get_peft_model
from pydantic.dataclasses import dataclass

from baselines.allocator import Allocator, Facts
from baselines.budgets import Unit
from baselines.fields import CHECKED, NotNegative, Positive, ProperFraction
from baselines.importance import Measured, Rule
from baselines.method import Attached, Method
from baselines.sizes import Shapes, nearest_rank
from smoe import DEFAULT_TARGETS, Budget, BudgetError, Probe

LARGEST = 4  # times the mean rank, where no bound is set


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Ranks(Allocator):
    """One adapter a block, its rank by an importance. Constant importance is LoRA of rank r, bit for bit."""

    budget_fields: ClassVar[tuple[str, ...]] = ("r", "total_ranks", "trainable_params")
    later: ClassVar[frozenset[str]] = frozenset()
    variant: ClassVar[Mapping[str, Any]] = {}  # further options of PEFT's LoraConfig

    r: Positive[int] = 32  # mean rank over the blocks of the grouping: the budget, unless one of the next two is set
    total_ranks: Positive[int] | None = None  # budget: ranks over all blocks
    trainable_params: Positive[int] | None = None  # budget: adapter parameters
    rule: Rule | None = "proportional"  # how the importance becomes ranks; none: the importance's own
    vote: Positive[int] = 8  # ranks that one task's vote brings, under the rule of votes: those of an expert
    min_rank: NotNegative[int] | None = None  # of any block in the grouping; none: 1, or 0 under votes and greedy
    max_rank: Positive[int] | None = None  # none: four times r
    alpha: Positive[int] = 64  # scale is alpha / r in every block, or as `scale` says
    scale: Literal["constant", "equal", "sqrt"] = "constant"  # of block b: alpha / r, alpha / r_b, alpha / sqrt(r_b)
    dropout: ProperFraction = 0.0  # on the adapter's input; nothing to regularise in one pass, a fifth of a CPU step
    target_modules: tuple[str, ...] = DEFAULT_TARGETS

    def __post_init__(self) -> None:
        super().__post_init__()
        if (least := self.bounds[0]) > self.largest:
            raise ValueError(f"{self.name}: min_rank {least} is above max_rank {self.largest}")
        if self.total_ranks is not None and self.trainable_params is not None:
            raise ValueError(f"{self.name}: total_ranks and trainable_params are two budgets; give one of them")

    @property
    def largest(self) -> int:
        """Highest rank of a block."""
        return self.max_rank or LARGEST * self.r

    @property
    def budget(self) -> Budget:
        if self.trainable_params is not None:
            return Budget(trainable_params=self.trainable_params)
        if self.total_ranks is not None:
            return Budget(total_experts=self.total_ranks)
        return Budget(mean_experts=float(self.r))

    @property
    def unit(self) -> Unit:
        return Unit(1, router=False)

    @property
    def bounds(self) -> tuple[int, int | None]:
        least = int(self.rule_name in ("proportional", "layers")) if self.min_rank is None else self.min_rank
        return least, None if self.rule_name == "layers" else self.largest

    @property
    def most(self) -> int:
        return self.largest

    def _spent(self, measured: Measured, shapes: Shapes) -> dict[str, int]:
        try:
            return self._votes(measured, shapes) if self.rule_name == "votes" else super()._spent(measured, shapes)
        except BudgetError as error:
            raise BudgetError(str(error).replace("experts", "ranks")) from error

    def _votes(self, measured: Measured, shapes: Shapes) -> dict[str, int]:
        """Give every vote `vote` ranks: the allocation of as many experts of that rank."""
        budget, (low, cap) = self.budget, self.bounds
        if budget.trainable_params is None:
            total = budget.total_experts or (budget.mean_experts or 0) * len(self.blocks_inside(shapes)[1])
            if total % self.vote:
                near = sorted({max(n, 1) * self.vote for n in (int(total // self.vote), int(-(-total // self.vote)))})
                raise BudgetError(
                    f"{total:g} ranks are no whole number of votes of {self.vote}; nearest possible: "
                    f"{' or '.join(map(str, near))}"
                )
            budget = Budget(total_experts=round(total / self.vote))
        unit, bounds = Unit(self.vote, router=False), (-(-low // self.vote), (cap or self.largest) // self.vote)
        return {b: self.vote * n for b, n in self.spent_as(measured, shapes, budget, unit, bounds).items()}

    def attach(self, model: torch.nn.Module, probe: Probe, total_steps: int) -> Attached:
        return self.adapter(model, *self.allocate(model, probe))

    def adapter(self, model: torch.nn.Module, ranks: Mapping[str, int], facts: Facts) -> Attached:
        """Attach PEFT's LoRA of these ranks, with their facts. Raises ValueError where no block has one."""
        used = {block: rank for block, rank in ranks.items() if rank}
        if not used:
            raise ValueError(f"{self.name}: no block has a rank above 0")
        constant = self.scale == "constant"
        config = LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=list(used),
            rank_pattern={block: rank for block, rank in used.items() if rank != self.r},
            alpha_pattern={b: self.alpha * rank / self.r for b, rank in used.items() if constant and rank != self.r},
            use_rslora=self.scale == "sqrt",
            task_type="CAUSAL_LM",
            **self.variant,
        )
        attached: Attached = get_peft_model(model, config)
        attached.allocation_facts = {"ranks": dict(ranks), **facts}  # travels with the model until the record
        return attached

    def facts(self, model: Attached) -> Facts:
        planned = {block: rank for block, rank in model.allocation_facts["ranks"].items() if rank}
        layers = {n.split("base_model.model.", 1)[-1]: m for n, m in model.named_modules() if hasattr(m, "lora_A")}
        if {block: layer.r["default"] for block, layer in layers.items()} != planned:
            raise RuntimeError(f"{self.name}: the model's ranks are not those that were allocated")
        return dict(model.allocation_facts)

    def matched(self, target_params: int, shapes: Shapes) -> Method:
        self.leave_budget_to_match()
        targets, inside = self.blocks_inside(shapes)
        r = nearest_rank(lambda r: r * sum(sum(targets[b]) for b in inside), target_params)
        return replace(self, trainable_params=target_params, r=r)
