"""AlphaLoRA (Qing et al. 2024, arXiv 2410.10054): experts by layer, from the spectra of the weights; no data needed.

    a_l = mean over the layer's matrices of the power-law exponent of the eigenvalues of W^T W
    s_l = total * a_l^beta / sum over layers of a_l^beta            beta = 2.5; all blocks of a layer get s_l experts

A heavy tail (small a) is taken for a well-trained layer, which needs fewer. Released code: numbers are rounded, then
repaired by adding and taking away one at a time, which need not end at the total. Here: largest remainder, exact.
The exponent is measured in baselines/importance/alpha.py.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass

from baselines.budgets import by_layer, layers_of
from baselines.experts import Allocator, Facts
from baselines.fields import CHECKED, in_one_sentence
from baselines.importance.alpha import tail_exponents
from smoe import Probe, block_shapes, find_blocks
from smoe.blocks import block_shape


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class AlphaLora(Allocator):
    """More experts where the weights' spectrum has the lighter tail."""

    name: ClassVar[str] = "alphalora"
    summary: ClassVar[str] = "AlphaLoRA: experts where weight spectra say a layer is less trained"
    source: ClassVar[str] = "arXiv 2410.10054"

    beta: float = 2.5  # power of the exponent; 0: the same everywhere

    def check(self, model: torch.nn.Module, tasks: Sequence[str], total_steps: int) -> None:
        shapes = block_shapes(model, self.target_modules)
        by_layer(dict.fromkeys(layers_of(shapes), 1.0), self.budget, shapes, self.r)

    def allocate(self, model: torch.nn.Module, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        blocks = find_blocks(model, self.target_modules)
        shapes = {name: block_shape(block) for name, block in blocks.items()}
        exponents = tail_exponents(blocks)
        means = {layer: statistics.fmean(exponents[b] for b in names) for layer, names in layers_of(shapes).items()}
        experts = by_layer({layer: a**self.beta for layer, a in means.items()}, self.budget, shapes, self.r)
        return experts, {"exponents": exponents}
