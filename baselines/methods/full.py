"""Full fine-tuning: every weight of the model, embeddings and norms included, at the run's learning rate.

The upper reference where memory allows. The learning rate is that of the run, as for every method, though a tenth of an
adapter's is usual here; in bfloat16 the weights themselves are stepped, so small updates are rounded away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from baselines.method import Attached, Method, Probe


@dataclass(frozen=True, kw_only=True)
class Full(Method):
    """No adapter: the model's own weights."""

    name: ClassVar[str] = "full"
    summary: ClassVar[str] = "full fine-tuning: every weight of the model"
    source: ClassVar[str] = "-"
    trains_base: ClassVar[bool] = True

    def attach(self, model: torch.nn.Module, probe: Probe, total_steps: int) -> Attached:
        return model.requires_grad_(True)
