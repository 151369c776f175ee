"""References: no training, the floor of every table, and full fine-tuning, its ceiling where memory allows."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass

from baselines.fields import CHECKED, in_one_sentence
from baselines.method import Attached, Method
from smoe import Probe


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Frozen(Method):
    """The model as it is."""

    name: ClassVar[str] = "frozen"
    summary: ClassVar[str] = "no training: the floor"
    source: ClassVar[str] = "-"
    trains: ClassVar[bool] = False

    def attach(self, model: torch.nn.Module, probe: Probe, total_steps: int) -> Attached:
        return model


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Full(Method):
    """No adapter: every weight of the model, embeddings and norms included. The upper reference where memory allows.

    The learning rate is a tenth of an adapter's, as is usual; in bfloat16 the weights themselves are stepped, so small
    updates are rounded away, and a short run learns less than at a higher rate (`--tuned` finds it).
    """

    name: ClassVar[str] = "full"
    summary: ClassVar[str] = "full fine-tuning: every weight of the model"
    source: ClassVar[str] = "-"
    trains_base: ClassVar[bool] = True
    rate: ClassVar[float] = 5e-5  # a first step about as long as LoRA's
    grid_factor: ClassVar[float] = 0.1

    def attach(self, model: torch.nn.Module, probe: Probe, total_steps: int) -> Attached:
        return model.requires_grad_(True)
