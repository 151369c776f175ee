"""No importance: every block alike. Under a budget that blocks share evenly this is MoLoRA, and LoRA in ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from baselines.importance import Importance, Measured, Rule, same_for_all
from smoe import Probe


class Uniform(Importance):
    """1 everywhere."""

    name: ClassVar[str] = "uniform"
    summary: ClassVar[str] = "every block alike; nothing is measured"
    source: ClassVar[str] = "control"
    rule: ClassVar[Rule] = "proportional"

    def measure(
        self, model: torch.nn.Module, blocks: Mapping[str, torch.nn.Module], probe: Probe, most: int, seed: int | None
    ) -> Measured:
        return Measured(same_for_all(dict.fromkeys(blocks, 1.0), probe))
