"""Ablation of LoRA-SMoE: sensitivity as the released code measures it, one layer a sample, clipped, squared in fp16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from baselines.methods.lora_smoe import LoraSMoE


@dataclass(frozen=True, kw_only=True)
class SmoeReleased(LoraSMoE):
    """Clipping by layer takes the differences between layers away; see smoe/sensitivity.py."""

    name: ClassVar[str] = "smoe-released"
    summary: ClassVar[str] = "LoRA-SMoE with sensitivity measured as the released code does"
    source: ClassVar[str] = "arXiv 2505.06272, ablation"

    mode: str = "released"  # how sensitivity is measured: or "paper"
