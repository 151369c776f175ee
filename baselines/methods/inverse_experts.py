"""Control: LoRA-SMoE with the ranking reversed, so that experts go to the least sensitive blocks.

If sensitivity says where experts help, this does worse than chance; if it does no worse than LoRA-SMoE, the premise of
the paper is in doubt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from baselines.methods.lora_smoe import LoraSMoE


@dataclass(frozen=True, kw_only=True)
class InverseExperts(LoraSMoE):
    """Votes for the lowest scores: each task's s becomes max(s) - s."""

    name: ClassVar[str] = "inverse-experts"
    summary: ClassVar[str] = "control: LoRA-SMoE's experts where the gradients are small"
    source: ClassVar[str] = "control of arXiv 2505.06272"

    def _allocation(self, model: torch.nn.Module, scores: Mapping[str, Mapping[str, float]]) -> Mapping[str, int]:
        return super()._allocation(model, {task: reversed_scores(own) for task, own in scores.items()})


def reversed_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """Return scores that rank the blocks the other way round."""
    largest = max(scores.values())
    return {block: largest - score for block, score in scores.items()}
