"""PiSSA, as PEFT implements it (Meng et al. 2024, arXiv 2404.02948): LoRA that starts at a weight's principal part.

    W = U S V^T        B = U_r sqrt(S_r / s), A = sqrt(S_r / s) V_r^T, frozen: W - s B A

So attaching rewrites the base weights, and the method starts equal to the base model only up to rounding: none to
speak of in float32; in bfloat16 the decomposition is made in float32, but W - s B A, A and B are each rounded to
bfloat16 once (PEFT moves the new adapter to the base's dtype before it holds it in float32), about as far as W itself
is from the weight it was rounded from (SmolLM2-135M: KL divergence from the float32 model 0.0018, of the bfloat16 model
itself 0.0015). A block has no more directions than its narrow side, so that bounds its rank.
PEFT rewrites the base anew when a saved adapter is loaded; that gives the same base with the exact decomposition, not
with the randomised one (`niter`), whose seed is not saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic.dataclasses import dataclass

from baselines.fields import CHECKED, NotNegative, Positive, in_one_sentence
from baselines.methods.lora import Lora
from smoe import block_shapes


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Pissa(Lora):
    """y = (W - s B0 A0) x + s B A x, with B0 A0 the principal part of W / s."""

    name: ClassVar[str] = "pissa"
    summary: ClassVar[str] = "PiSSA: LoRA that starts at the weights' principal components"
    source: ClassVar[str] = "arXiv 2404.02948, PEFT"
    rate: ClassVar[float] = 1.25e-4  # a first step about as long as LoRA's; its source asks for less too
    alpha_follows_r: ClassVar[bool] = True

    alpha: Positive[int] = 32  # scale is alpha / r, 1 as in the paper
    niter: NotNegative[int] = 0  # iterations of the randomised decomposition, faster and nearly as good; 0: exact

    def settings(self, model: torch.nn.Module) -> Mapping[str, Any]:
        narrow = {b: min(s) for b, s in block_shapes(model, self.target_modules).items() if min(s) < self.r}
        return {
            "init_lora_weights": f"pissa_niter_{self.niter}" if self.niter else "pissa",
            "rank_pattern": narrow,
            "alpha_pattern": {block: self.alpha * rank / self.r for block, rank in narrow.items()},  # one scale for all
        }

    def block_params(self, shape: tuple[int, int], r: int) -> int:
        return super().block_params(shape, min(r, *shape))
