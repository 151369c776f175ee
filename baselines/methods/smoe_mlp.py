"""Ablation of LoRA-SMoE: MLP blocks alone; attention gets no adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from baselines.methods.lora_smoe import LoraSMoE


@dataclass(frozen=True, kw_only=True)
class SmoeMlp(LoraSMoE):
    """The budget in mean experts is over the MLP blocks."""

    name: ClassVar[str] = "smoe-mlp"
    summary: ClassVar[str] = "LoRA-SMoE on the MLP blocks alone"
    source: ClassVar[str] = "arXiv 2505.06272, ablation"

    grouping: str = "mlp"  # blocks that take part: or attention-mlp, type, attention, global
