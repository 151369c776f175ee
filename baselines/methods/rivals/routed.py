"""MoLoRA with another router, experts of single ranks among them: what differs is how tokens choose.

Layer, sizes and initialisation are those of the other mixtures here (A kaiming, B zero), so that these contestants and
`molora` differ in the router alone; the papers' own sizes are in their docstrings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass

from baselines.allocator import Facts
from baselines.experts import PUBLISHED_SCALE, ExpertMethod
from baselines.fields import CHECKED, NotNegative, Positive, in_one_sentence
from baselines.method import Method
from baselines.methods.molora import MoLora
from baselines.sizes import Shapes, nearest_rank, own_shapes, require_within
from smoe import Probe, block_params, find_blocks


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class AdaMoLE(MoLora):
    """A token uses every expert whose probability is above a threshold of its own; there 8 experts of rank 32."""

    name: ClassVar[str] = "adamole"
    summary: ClassVar[str] = "AdaMoLE: experts above a learned threshold that depends on the token"
    source: ClassVar[str] = "arXiv 2405.00361, github zefang-liu/AdaMoLE"
    departures: ClassVar[str] = "4 experts of rank 8 in all blocks, not 8 of rank 32 in attention; none always on"
    later: ClassVar[frozenset[str]] = MoLora.later - {"router", "threshold", "balance_reduction"}

    router: str = "threshold"
    balance_loss: NotNegative[float] = 1e-3  # coefficient, of the margins p - tau
    balance_reduction: Literal["mean", "sum", "pool"] = "sum"  # as published


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LDMoLE(MoLora):
    """Gates are a projection onto the simplex whose sparsity a small shared network predicts; there 8 experts."""

    name: ClassVar[str] = "ld-mole"
    summary: ClassVar[str] = "LD-MoLE: a learned, differentiable number of experts for every token"
    source: ClassVar[str] = "arXiv 2509.25684, github eshentw/LD-MoLE"
    departures: ClassVar[str] = (
        "4 experts, not 8; sparsity from the input before dropout; reduction over routers ours; terms at 0 left out"
    )
    later: ClassVar[frozenset[str]] = MoLora.later - {"router", "router_hidden"}

    router: str = "sparsegen"
    balance_loss: NotNegative[float] = 1.0  # coefficient, shares counted over active experts


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Smora(ExpertMethod):
    """Every rank is an expert: z = sigmoid(R x) + d, the best k ranks, y = W x + alpha sum_i g_i B_i A_i x.

    g = z / sum of the chosen z; the published (alpha / k) sum k g_i B_i A_i x is the same. With R = 0 and all ranks
    in use it is LoRA with the scale alpha / r. Rank and k of the source were not verified.
    """

    name: ClassVar[str] = "smora"
    summary: ClassVar[str] = "SMoRA: every rank of a LoRA is an expert, of which a token uses the best k"
    source: ClassVar[str] = "arXiv 2501.15103"
    departures: ClassVar[str] = "d moves once an optimiser step, not in every pass; rank 24, as large as others"
    later: ClassVar[frozenset[str]] = ExpertMethod.later - {"router"}

    r: Positive[int] = 24  # ranks in all, each an expert with a row of the router
    top_k: Positive[int] | None = 8  # ranks that a token uses; none: all, softly
    router: str = "sigmoid-bias"

    @property
    def expert_rank(self) -> int:
        return 1

    @property
    def experts_everywhere(self) -> int:
        return self.r

    def settings(self) -> dict[str, Any]:
        alpha = self.alpha if self.scale == "equal" else PUBLISHED_SCALE * self.r
        return {**super().settings(), "lora_alpha": alpha}

    def allocate(self, model: torch.nn.Module, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        return dict.fromkeys(find_blocks(model, self.target_modules), self.r), {}

    def matched(self, target_params: int, shapes: Shapes) -> Method:
        blocks = own_shapes(shapes, self.target_modules)

        def params(r: int) -> int:
            return sum(block_params(shape, r, 1, router=self.router) for shape in blocks.values())

        r = nearest_rank(params, target_params)
        require_within(self.name, f"r={r}", params(r), target_params)
        return replace(self, r=r)

    def matched_experts(self, total: int, shapes: Shapes) -> Method:
        raise ValueError(f"{self.name}: its experts are single ranks: --match experts means nothing, ask for params")


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LoraMoE(MoLora):
    """LoRAMoE as its released script runs it, where the balancing of the paper has the coefficient 0.

    So it is MoLoRA on the feed-forward blocks with 8 experts of rank 4 and alpha 32.
    """

    name: ClassVar[str] = "loramoe"
    summary: ClassVar[str] = "LoRAMoE as released: MoLoRA on the feed-forward blocks"
    source: ClassVar[str] = "arXiv 2312.09979, github Ablustrund/LoRAMoE"
    departures: ClassVar[str] = "none from its script; the paper's localized balancing is at 0 there and left out"

    r: Positive[int] = 4  # rank of every expert
    alpha: Positive[int] = 32  # scale is alpha / r
    num_experts: Positive[int] = 8  # in every block
    target_modules: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")
