"""Mixtures of LoRA experts: who places them says how many go to each block; the layer and its training are shared."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from peft import get_peft_model
from pydantic.dataclasses import dataclass

from baselines.fields import CHECKED, NotNegative, Positive, ProperFraction
from baselines.method import Attached, Method
from baselines.sizes import Shapes
from smoe import DEFAULT_TARGETS, Budget, Probe, SMoEConfig, experts_per_block, parameter_counts, record_routing

Facts = dict[str, Any]
PUBLISHED_SCALE = 2  # alpha / r of LoRA-SMoE, MoLA and HydraLoRA


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ExpertMethod(Method):
    """y = W x + (alpha/r) sum_e g_e(x) B_e A_e x with a soft or top-k router; see smoe/layer.py."""

    share_A: ClassVar[bool] = False  # one A for all experts of a block

    r: Positive[int] = 8  # rank of every expert
    alpha: Positive[int] = 64  # scale is alpha / r; a step moves the output by about alpha, whatever r and the experts
    scale: Literal["equal", "published"] = "equal"  # published: alpha / r is 2 as in the papers, whatever alpha is
    dropout: ProperFraction = 0.0  # on the adapter's input; nothing to regularise in one pass, a fifth of a CPU step
    top_k: Positive[int] | None = None  # experts a token uses; none: all, softly
    renormalise: bool = True  # divide the top-k gates by their sum
    balance_loss: NotNegative[float] = 0.0  # coefficient of the Switch balance loss
    target_modules: tuple[str, ...] = DEFAULT_TARGETS

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale == "published" and self.alpha != ExpertMethod.alpha:
            raise ValueError(f"{self.name}: alpha {self.alpha} and scale published say two things; give one of them")

    @abstractmethod
    def allocate(self, model: torch.nn.Module, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        """Return the experts of every block of the frozen `model`, and JSON-ready facts on how they came about."""

    def attach(self, model: torch.nn.Module, probe: Probe, total_steps: int) -> Attached:
        experts, facts = self.allocate(model, probe)
        config = SMoEConfig(
            r=self.r,
            lora_alpha=self.alpha if self.scale == "equal" else PUBLISHED_SCALE * self.r,
            lora_dropout=self.dropout,
            expert_pattern=dict(experts),
            top_k=self.top_k,
            renormalise=self.renormalise,
            balance_loss=self.balance_loss,
            share_A=self.share_A,
            task_type="CAUSAL_LM",
        )
        attached: Attached = get_peft_model(model, config)
        attached.allocation_facts = {"experts": dict(experts), **facts}  # travels with the model until the record
        return attached

    def penalty(self, model: Attached) -> torch.Tensor | None:
        return model.base_model.take_balance_loss() if self.balance_loss else None

    def router_diagnostics(self, model: Attached, probe: Probe) -> Facts:
        """Record what each router does on each task; blocks with one expert have none."""
        routers: Facts = {}
        for task, batches in probe.items():
            with record_routing(model) as report, torch.no_grad():
                for batch in batches:
                    model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            routers[task] = {
                block: {"load": [round(x, 4) for x in b.load], "entropy": round(b.entropy, 4), "dead": b.dead}
                for block, b in report.blocks.items()
            }
        return {"router": routers}

    def facts(self, model: Attached) -> Facts:
        made = {block: n for block, n in model.allocation_facts["experts"].items() if n}
        if experts_per_block(model) != made:
            raise RuntimeError(f"{self.name}: the model's experts are not those that were allocated")
        return {**model.allocation_facts, "parameters": parameter_counts(model)}


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Allocator(ExpertMethod):
    """A mixture whose experts are placed unevenly, under a budget: three fields, of which one is set.

    The layer is that of every mixture, so two allocators differ in where experts go and in nothing else.
    """

    needs_budget: ClassVar[bool] = True  # False: without one the method has numbers of its own
    one_of: ClassVar[tuple[tuple[str, ...], ...]] = (("mean_experts", "total_experts", "trainable_params"),)

    mean_experts: Positive[float] | None = 4.0  # budget: experts a block on average ...
    total_experts: Positive[int] | None = None  # ... or over all blocks ...
    trainable_params: Positive[int] | None = None  # ... or adapter parameters, routers included; one of the three

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.needs_budget or self.has_budget:
            try:
                self.budget  # noqa: B018  # made to be checked
            except ValueError as error:
                raise ValueError(f"{self.name}: {error}") from error

    @property
    def has_budget(self) -> bool:
        return any(n is not None for n in (self.mean_experts, self.total_experts, self.trainable_params))

    @property
    def budget(self) -> Budget:
        return Budget(
            mean_experts=self.mean_experts, total_experts=self.total_experts, trainable_params=self.trainable_params
        )

    def matched(self, target_params: int, shapes: Shapes) -> Method:
        self._leave_budget_to_match()
        return replace(self, mean_experts=None, total_experts=None, trainable_params=target_params)

    def matched_experts(self, total: int, shapes: Shapes) -> Method:
        self._leave_budget_to_match()
        return replace(self, mean_experts=None, total_experts=total, trainable_params=None)

    def _leave_budget_to_match(self) -> None:
        """Raise ValueError for a budget of one's own, which would be overruled without a word."""
        for name in ("mean_experts", "total_experts", "trainable_params"):
            if (asked := getattr(self, name)) != getattr(type(self), name):
                raise ValueError(f"{self.name}: --match sets the budget; leave it out, or {name}={asked}")
