"""DoRA, as PEFT implements it (Liu et al. 2024, arXiv 2402.09353): a weight's magnitude and direction, trained apart.

The norm in the denominator is a constant to the gradient, as in the paper's section 4.3. PEFT forms B A and adds it to
W in every forward pass to know that norm, which is what makes it slow. On a bfloat16 model the norms are rounded to
bfloat16, so there it starts equal to the base model only up to that (SmolLM2-135M: KL divergence from the float32 model
0.0020, of the bfloat16 model itself 0.0015).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from baselines.fields import CHECKED, in_one_sentence
from baselines.methods.lora import Lora


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Dora(Lora):
    """y = m (W + s B A) x / ||W + s B A||, norms over each output's row, m starts at ||W||."""

    name: ClassVar[str] = "dora"
    summary: ClassVar[str] = "DoRA: LoRA on the weight's direction, its magnitude trained apart"
    source: ClassVar[str] = "arXiv 2402.09353, PEFT"
    variant: ClassVar[Mapping[str, Any]] = {"use_dora": True}

    def block_params(self, shape: tuple[int, int], r: int) -> int:
        return super().block_params(shape, r) + shape[1]
