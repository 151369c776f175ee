"""No training: the floor of every table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from baselines.method import Attached, Method, Probe


@dataclass(frozen=True, kw_only=True)
class Frozen(Method):
    """The model as it is."""

    name: ClassVar[str] = "frozen"
    summary: ClassVar[str] = "no training: the floor"
    source: ClassVar[str] = "-"
    trains: ClassVar[bool] = False

    def attach(self, model: torch.nn.Module, probe: Probe, total_steps: int) -> Attached:
        return model
