"""Influence between a task's samples, after LayerIF (arXiv 2505.23811): whether a step on one helps the others.

    S_k(b) = mean over pairs i != j of task k's samples of max(0, <g_i, g_j>),  g_i = dL_i / dW_b

The Hessian of an influence function is taken as the identity. <G_i^T X_i, G_j^T X_j> = sum (X_i X_j^T o G_i G_j^T),
so no gradient is formed. Departures: LayerIF trains first and measures layers against validation samples / here the
frozen model, and blocks, on the calibration samples. A single sample is its own pair: then this is the sensitivity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch

from baselines.importance import Importance, Measured
from smoe import Probe
from smoe.gradients import IGNORED, capture_linear_io, frozen_for_scoring, sample_losses


class Influence(Importance):
    """Mean positive inner product of two samples' gradients."""

    name: ClassVar[str] = "influence"
    summary: ClassVar[str] = "how much a step on one sample of a task helps its other samples"
    source: ClassVar[str] = "after arXiv 2505.23811"

    def measure(
        self, model: torch.nn.Module, blocks: Mapping[str, torch.nn.Module], probe: Probe, most: int, seed: int | None
    ) -> Measured:
        scores = {}
        for task, batches in probe.items():
            products = inner_products(model, blocks, batches, task)
            scores[task] = {block: positive_mean(k) for block, k in products.items()}
        return Measured(scores, {"importance": scores})


def positive_mean(products: torch.Tensor) -> float:
    """Return the mean of max(0, k_ij) over i != j of (N, N) products; of one sample k_11."""
    if len(products) > 1:
        products = products[~torch.eye(len(products), dtype=torch.bool, device=products.device)]
    return float(products.clamp_min(0).mean())


def inner_products(
    model: torch.nn.Module,
    blocks: Mapping[str, torch.nn.Module],
    batches: Sequence[Mapping[str, torch.Tensor]],
    where: str,
) -> dict[str, torch.Tensor]:
    """Return <g_i, g_j> (N, N) of every block, over all N samples of the batches in one pass. Raises ValueError."""
    products: dict[str, torch.Tensor] = {}
    batch = joined(batches)
    rows = len(batch["input_ids"])

    def take(block: str, x: torch.Tensor, g: torch.Tensor) -> None:
        if x.ndim != 3 or len(x) != rows:
            raise ValueError(f"{block} does not see a row of tokens for each sample: importance influence cannot tell")
        x, g = x.float().flatten(0, 1), g.float().flatten(0, 1)  # (N T, I), (N T, O)
        both = (x @ x.T) * (g @ g.T)
        products[block] = both.unflatten(1, (rows, -1)).sum(2).unflatten(0, (rows, -1)).sum(1)

    with frozen_for_scoring(model), capture_linear_io(blocks, lambda block, x: None, take):
        torch.autograd.backward(sample_losses(model, batch, where).sum())
    return {block: products[block] for block in blocks}


def joined(batches: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Make one batch of several, padded on the left; positions are the model's to count from the mask."""
    width = max(batch["input_ids"].shape[1] for batch in batches)

    def padded(batch: Mapping[str, torch.Tensor], name: str, value: int) -> torch.Tensor:
        tensor = batch[name] if name in batch else torch.ones_like(batch["input_ids"])
        return torch.nn.functional.pad(tensor, (width - tensor.shape[1], 0), value=value)

    filled = {"input_ids": 0, "attention_mask": 0, "labels": IGNORED}
    return {name: torch.cat([padded(batch, name, value) for batch in batches]) for name, value in filled.items()}
