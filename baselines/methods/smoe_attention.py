"""Ablation of LoRA-SMoE: attention blocks alone, as in the allocation that was released; no adapter on MLPs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from baselines.methods.lora_smoe import LoraSMoE


@dataclass(frozen=True, kw_only=True)
class SmoeAttention(LoraSMoE):
    """The budget in mean experts is over the attention blocks."""

    name: ClassVar[str] = "smoe-attention"
    summary: ClassVar[str] = "LoRA-SMoE on the attention blocks alone"
    source: ClassVar[str] = "arXiv 2505.06272, ablation"

    grouping: str = "attention"  # blocks that take part: or attention-mlp, type, mlp, global
