"""Mixtures of LoRA experts: the layer they all share, so that two of them differ in the allocation alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from peft import get_peft_model

from baselines.method import PROJECTIONS, Attached, Method, Probe
from smoe import SMoEConfig, experts_per_block, parameter_counts, record_routing

Facts = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ExpertMethod(Method):
    """y = W x + (alpha/r) sum_e g_e(x) B_e A_e x with a soft or top-k router; see smoe/layer.py."""

    share_A: ClassVar[bool] = False  # one A for all experts of a block

    r: int = 8  # rank of every expert
    alpha: int = 16  # scale is alpha / r
    dropout: float = 0.0  # on the adapter's input; nothing to regularise in one pass, and a fifth of a CPU step
    top_k: int | None = None  # experts a token uses; none: all, softly
    renormalise: bool = True  # divide the top-k gates by their sum
    balance_loss: float = 0.0  # coefficient of the Switch balance loss
    target_modules: tuple[str, ...] = PROJECTIONS

    def __post_init__(self) -> None:
        self._require_positive("r", "alpha", *(["top_k"] if self.top_k is not None else []))
        self._require_fraction("dropout")
        if self.balance_loss < 0:
            raise ValueError(f"{self.name}: balance_loss {self.balance_loss} must be 0 or more")

    @abstractmethod
    def allocate(self, model: torch.nn.Module, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        """Experts of every block of the frozen `model`, and JSON-ready facts on how they came about."""

    def attach(self, model: torch.nn.Module, probe: Probe, total_steps: int) -> Attached:
        experts, facts = self.allocate(model, probe)
        config = SMoEConfig(
            r=self.r,
            lora_alpha=self.alpha,
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

    def observe(self, model: Attached, probe: Probe) -> Facts:
        """What each router does on each task; blocks with one expert have none."""
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
