"""LoRA, as PEFT implements it (Hu et al. 2021, arXiv 2106.09685): y = W x + (alpha/r) B A x."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from peft import LoraConfig, get_peft_model

from baselines.method import PROJECTIONS, Attached, Method, Probe


@dataclass(frozen=True, kw_only=True)
class Lora(Method):
    """One adapter of rank r on every block."""

    name: ClassVar[str] = "lora"
    summary: ClassVar[str] = "LoRA: one low-rank adapter on every block"
    source: ClassVar[str] = "arXiv 2106.09685, PEFT"

    r: int = 32  # rank; four experts of rank 8 have as many parameters
    alpha: int = 64  # scale is alpha / r, 2 as in the expert methods
    dropout: float = 0.0  # on the adapter's input; nothing to regularise in one pass, and a fifth of a CPU step
    target_modules: tuple[str, ...] = PROJECTIONS

    def attach(self, model: torch.nn.Module, probe: Probe, total_steps: int) -> Attached:
        config = LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=list(self.target_modules),
            task_type="CAUSAL_LM",
        )
        return get_peft_model(model, config)
