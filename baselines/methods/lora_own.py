"""LoRA in the layer of the mixtures: one expert a block, no router. What methods differ by, and not libraries.

The same function, initialisation and number of parameters as `lora`, which is PEFT's: the tests hold the two to each
other. Its memory and time are what a mixture's are to be compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass

from baselines.allocator import Facts
from baselines.experts import ExpertMethod
from baselines.fields import CHECKED, Positive, in_one_sentence
from baselines.method import Method
from baselines.sizes import Shapes, nearest_rank, own_shapes, require_within
from smoe import Probe, block_params, find_blocks


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LoraOwn(ExpertMethod):
    """y = W x + (alpha/r) B A x."""

    name: ClassVar[str] = "lora-own"
    summary: ClassVar[str] = "LoRA in the layer of the mixtures: one expert on every block"
    source: ClassVar[str] = "arXiv 2106.09685"

    r: Positive[int] = 32  # rank; four experts of rank 8 have as many parameters

    def allocate(self, model: torch.nn.Module, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        return dict.fromkeys(find_blocks(model, self.target_modules), 1), {}

    def matched(self, target_params: int, shapes: Shapes) -> Method:
        blocks = own_shapes(shapes, self.target_modules)

        def params(r: int) -> int:
            return sum(block_params(shape, 1, r) for shape in blocks.values())

        r = nearest_rank(params, target_params)
        require_within(self.name, f"r={r}", params(r), target_params)
        return replace(self, r=r)
