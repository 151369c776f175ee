"""GOAT (arXiv 2502.16894): experts start as segments of the weight's spectrum, their mean taken out of the weight.

See smoe/variants/svd_start.py for the start. There 8 experts, top-2, dropout .05; r 8 and alpha 16 in all on language
(so experts of rank 1 at the scale 16), r 32 and alpha 64 on GLUE (rank 4, scale 16: the default here). The paper's
scale sqrt(3 eta I / r_e), eta 1, cannot be reached in the release, whose "goat_scale" raises; `scale=paper` is it.

Ablations that tell what it is: `init=kaiming` is the scale alone, `scale=2` the start alone, `residual=false` leaves
the weight as it was. At one learning rate for all a scale of 16 compares step sizes: use `--tuned`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic.dataclasses import dataclass

from baselines.allocator import Facts
from baselines.fields import CHECKED, NotNegative, Positive, in_one_sentence
from baselines.method import Method
from baselines.methods.molora import MoLora
from baselines.sizes import Shapes
from smoe import Probe, block_shapes
from smoe.variants.svd_start import wide_enough


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Goat(MoLora):
    """y = (W - s/E sum_e B_e A_e at the start) x + s sum_e g_e(x) B_e A_e x, top-2.

    Not equal to the base at the start, since the two experts of a token are not the mean of all.
    """

    name: ClassVar[str] = "goat"
    summary: ClassVar[str] = "GOAT: experts start at segments of each weight's singular values, at a large scale"
    source: ClassVar[str] = "arXiv 2502.16894, github Facico/GOAT-PEFT@ef4d21a"
    departures: ClassVar[str] = "no dropout; blocks too narrow for all experts keep LoRA's start"
    later: ClassVar[frozenset[str]] = MoLora.later - {"balance_reduction"}

    r: Positive[int] = 4  # rank of every expert, r / E in the source's words
    num_experts: Positive[int] = 8  # in every block
    alpha: Positive[int] = 64  # the released scale is alpha / r
    scale: Literal["released", "paper", "2"] = "released"  # type: ignore[assignment]  # paper: sqrt(3 I / r)
    top_k: Positive[int] | None = 2  # experts a token uses; none: all, softly
    balance_loss: NotNegative[float] = 1e-3  # coefficient
    balance_reduction: Literal["mean", "sum", "pool"] = "sum"  # as published
    init: Literal["svd", "kaiming"] = "svd"  # kaiming: LoRA's start, to measure the scale alone
    residual: bool = True  # take the experts' mean out of the frozen weight
    rho: Positive[float] = 10.0  # the start is divided by this

    @property
    def starts_at_base(self) -> bool:
        return self.init == "kaiming"

    def settings(self) -> dict[str, Any]:
        return {
            **super().settings(),
            "lora_alpha": self.alpha if self.scale != "2" else 2 * self.r,
            "input_scale": 1.0 if self.scale == "paper" else None,
            "init_weights": "svd" if self.init == "svd" else True,
            "svd_residual": self.residual,
            "svd_rho": self.rho,
        }

    def allocate(self, model: torch.nn.Module, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        experts, facts = super().allocate(model, probe)
        if self.init == "svd":
            shapes = block_shapes(model, self.target_modules)
            narrow = [b for b, shape in shapes.items() if not wide_enough(shape, self.num_experts, self.r)]
            facts = {**facts, "usual_start": narrow}
        return experts, facts

    def matched(self, target_params: int, shapes: Shapes) -> Method:
        made = cast(Goat, super().matched(target_params, shapes))
        return replace(made, alpha=max(round(self.alpha * made.r / self.r), 1))  # the released scale stays
