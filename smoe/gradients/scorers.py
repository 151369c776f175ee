"""What is kept of each sample's gradients: the two ways to score a block, fed by `smoe.gradients`.

A scorer hears of every pass: `start_batch`, then for each block `check_inputs` (forward) and `add` (backward; or
`add_gradient`, where weight gradients exist), then `end_batch`. Its `values` hold a number per block and sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import nn

from smoe.blocks import place
from smoe.gradients import Grams, weight_gradient


class Scorer(Protocol):
    """Turns what `smoe.gradients` captures into a number per block and sample."""

    values: dict[str, list[float]]

    def start_batch(self, rows: int, columns: int) -> None: ...

    def check_inputs(self, block: str, x: torch.Tensor) -> None: ...

    def add(self, block: str, x: torch.Tensor, g: torch.Tensor) -> None: ...

    def add_gradient(self, block: str, gradient: torch.Tensor) -> None: ...

    def end_batch(self) -> None: ...


class SamplesMixed(Exception):
    """A block's inputs do not say which sample each of their rows belongs to."""


class SquaredNormScorer:
    """Collects ||dL_n / dW||_F^2 of every sample; a block that a pass does not call scores 0 in it."""

    def __init__(self, blocks: Mapping[str, nn.Module]) -> None:
        self.values: dict[str, list[float]] = {block: [] for block in blocks}

    def start_batch(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.grams = Grams()
        self.norms: dict[str, torch.Tensor] = {}

    def check_inputs(self, block: str, x: torch.Tensor) -> None:
        if self.rows > 1 and x.shape[:-1] != (self.rows, self.columns):
            raise SamplesMixed(f"{block} does not see a row of tokens for each sample of a batch")

    def add(self, block: str, x: torch.Tensor, g: torch.Tensor) -> None:
        if block in self.norms:
            raise ValueError(f"{block} is called twice in one forward pass: its gradient is a sum over calls")
        # What one sample sends through a block counts in any order and shape: its gradient is a sum over rows.
        x, g = (t.reshape(self.rows, -1, t.shape[-1]) for t in (x, g))
        self.norms[block] = self.grams.squared_norms(x, g)

    def add_gradient(self, block: str, gradient: torch.Tensor) -> None:
        self.norms[block] = gradient.float().square().sum().reshape(1)

    def end_batch(self) -> None:
        self.grams.clear()
        # Read once a batch, not once a block: each read waits for the device.
        called = list(self.norms)
        table = torch.stack([self.norms[b] for b in called]).tolist() if called else []
        norms = dict(zip(called, table, strict=True))
        for block, values in self.values.items():
            values.extend(norms.get(block, [0.0] * self.rows))


class ReleasedScorer:
    """Step i scores layer (last - i mod layers) on sample (i mod samples): clipped at 1, squared in fp16."""

    def __init__(self, blocks: Mapping[str, nn.Module], samples: int) -> None:
        self.values: dict[str, list[float]] = {block: [] for block in blocks}
        layers_of_blocks = {block: place(block)[0] for block in blocks}
        # Blocks outside the layers make a layer of their own, below all others.
        self.layer_of = {block: -1 if layer is None else layer for block, layer in layers_of_blocks.items()}
        layers = sorted(set(self.layer_of.values()), reverse=True)
        self.turns: list[set[int]] = [set() for _ in range(samples)]
        for step in range(max(samples, len(layers))):
            self.turns[step % samples].add(layers[step % len(layers)])
        self.sample = -1

    def start_batch(self, rows: int, columns: int) -> None:
        self.sample += 1
        self.layer: int | None = None
        self.gradients: dict[str, torch.Tensor] = {}
        self.seen: set[str] = set()

    def check_inputs(self, block: str, x: torch.Tensor) -> None:
        """Nothing to see: a pass holds one sample."""

    def add(self, block: str, x: torch.Tensor, g: torch.Tensor) -> None:
        if self.layer_of[block] in self.turns[self.sample]:
            if block in self.seen:
                raise ValueError(f"{block} is called twice in one forward pass: its gradient is a sum over calls")
            self.add_gradient(block, weight_gradient(x.flatten(0, -2), g.flatten(0, -2)))

    def add_gradient(self, block: str, gradient: torch.Tensor) -> None:
        layer = self.layer_of[block]
        if layer not in self.turns[self.sample]:
            return
        if layer != self.layer:
            # Backward leaves a layer before it enters the next: no more than one layer's gradients are held.
            self._close_layer()
            self.layer = layer
        self.seen.add(block)
        self.gradients[block] = gradient.float()

    def _close_layer(self) -> None:
        if not self.gradients:
            return
        norm = torch.stack([g.square().sum() for g in self.gradients.values()]).sum().sqrt()
        clip = (1.0 / (norm + 1e-6)).clamp_max(1.0)
        for block, gradient in self.gradients.items():
            self.values[block].append(float((gradient * clip).half().square().sum()))
        self.gradients = {}

    def end_batch(self) -> None:
        self._close_layer()
        for block, values in self.values.items():
            if self.layer_of[block] in self.turns[self.sample] and block not in self.seen:
                values.append(0.0)
