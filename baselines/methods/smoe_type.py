"""Ablation of LoRA-SMoE: blocks are ranked within their projection type, so each type gets its share of the experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from baselines.methods.lora_smoe import LoraSMoE


@dataclass(frozen=True, kw_only=True)
class SmoeType(LoraSMoE):
    """Seven groups; the layers compete, the projections do not."""

    name: ClassVar[str] = "smoe-type"
    summary: ClassVar[str] = "LoRA-SMoE with blocks ranked within each projection type"
    source: ClassVar[str] = "arXiv 2505.06272, ablation"

    grouping: str = "type"  # blocks ranked against each other: or attention-mlp, attention, mlp, global
