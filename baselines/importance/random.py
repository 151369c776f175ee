"""Chance: every task draws an importance of each block. `allocation_seed` repeats the draw whatever the run's seed is.

`random-experts` and `random-ranks` are another control: they deal out another allocation's numbers at random.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from baselines.importance import EVERY, Importance, Measured
from smoe import Probe


class Random(Importance):
    """Uniform in [0, 1), drawn anew for each task and block."""

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "control: drawn at random; allocation_seed repeats the draw"
    source: ClassVar[str] = "control"

    def measure(
        self, model: torch.nn.Module, blocks: Mapping[str, torch.nn.Module], probe: Probe, most: int, seed: int | None
    ) -> Measured:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        drawn = {t: torch.rand(len(blocks), generator=generator).tolist() for t in probe or (EVERY,)}
        scores = {task: dict(zip(blocks, numbers, strict=True)) for task, numbers in drawn.items()}
        return Measured(scores, {"importance": scores})
