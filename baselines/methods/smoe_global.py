"""Ablation of LoRA-SMoE: all blocks of the model are ranked together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from baselines.methods.lora_smoe import LoraSMoE


@dataclass(frozen=True, kw_only=True)
class SmoeGlobal(LoraSMoE):
    """One group; attention and MLP blocks compete."""

    name: ClassVar[str] = "smoe-global"
    summary: ClassVar[str] = "LoRA-SMoE with all blocks ranked together"
    source: ClassVar[str] = "arXiv 2505.06272, ablation"

    grouping: str = "global"  # blocks ranked against each other: or attention-mlp, type, attention, mlp
