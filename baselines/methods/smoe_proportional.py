"""Ablation of LoRA-SMoE: experts in proportion to the normalised sensitivities instead of votes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from baselines.methods.lora_smoe import LoraSMoE


@dataclass(frozen=True, kw_only=True)
class SmoeProportional(LoraSMoE):
    """Largest remainder on the tasks' normalised scores; see smoe/proportional.py."""

    name: ClassVar[str] = "smoe-proportional"
    summary: ClassVar[str] = "LoRA-SMoE with experts in proportion to sensitivity, no votes"
    source: ClassVar[str] = "arXiv 2505.06272, ablation"

    rule: str = "proportional"  # or "votes"
    max_experts: int | None = 8  # of any block; as many as eight tasks can vote for
