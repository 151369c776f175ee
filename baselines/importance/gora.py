"""GoRA's importance (He et al. 2025, github hhnqqq/MyTransformers@4037d4d): mean |W o G| of the mean gradient G.

G is formed whole, for one task at a time: it takes the memory of the blocks' weights in fp32. Departures: there all
data are one / here a task at a time, so that the rule of votes can be used; `rule=proportional` adds the tasks up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch

from baselines.importance import Importance, Measured, Rule
from smoe import Probe
from smoe.blocks import block_weight
from smoe.gradients import capture_linear_io, frozen_for_scoring, sample_losses, weight_gradient


class Gora(Importance):
    """mean |W o G|."""

    name: ClassVar[str] = "gora"
    summary: ClassVar[str] = "mean |weight x gradient|, the gradient a mean over samples"
    source: ClassVar[str] = "GoRA, NeurIPS 2025"
    rule: ClassVar[Rule] = "proportional"

    def measure(
        self, model: torch.nn.Module, blocks: Mapping[str, torch.nn.Module], probe: Probe, most: int, seed: int | None
    ) -> Measured:
        scores = {}
        for task, batches in probe.items():
            gradients = mean_gradients(model, blocks, batches, task)
            scores[task] = union_mean(blocks, gradients)
        return Measured(scores, {"importance": scores})


def union_mean(blocks: Mapping[str, torch.nn.Module], gradients: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return mean |W o G| of every block. Raises ValueError for a packed weight."""
    return {b: float((block_weight(m).float() * gradients[b]).abs().mean()) for b, m in blocks.items()}


def mean_gradients(
    model: torch.nn.Module,
    blocks: Mapping[str, torch.nn.Module],
    batches: Iterable[Mapping[str, torch.Tensor]],
    where: str,
) -> dict[str, torch.Tensor]:
    """Return dL/dW (O, I) of each block in fp32, L the mean over all samples of their mean answer losses.

    where: named in errors. Nothing of the model is changed.
    """
    sums: dict[str, torch.Tensor] = {}
    samples = 0

    def take(block: str, x: torch.Tensor, g: torch.Tensor) -> None:
        gradient = weight_gradient(x.flatten(0, -2), g.flatten(0, -2))
        sums[block] = sums[block].add_(gradient) if block in sums else gradient

    with frozen_for_scoring(model), capture_linear_io(blocks, lambda block, x: None, take):
        for batch in batches:
            samples += len(batch["input_ids"])
            torch.autograd.backward(sample_losses(model, batch, where).sum())
    missing = [b for b in blocks if b not in sums]
    if missing:
        raise ValueError(f"{where}: block {missing[0]} was not called, so that it has no gradient")
    return {b: sums[b].div_(samples) for b in blocks}
