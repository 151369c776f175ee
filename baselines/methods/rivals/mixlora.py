"""MixLoRA (arXiv 2404.15159): experts that are whole feed-forward nets, two for each token; plain LoRA on attention.

There r 16, alpha 32, dropout .05, 8 experts, a router of N(0, 0.02) for each net; balance coefficient 1e-3 over the
router logits of all layers together, so that only the pool is balanced. Here rank 6, with which it is as large as the
others, and their scale. Left out: Switch routing, which drops tokens by their place in the row and scales the net's
output by the largest probability. See smoe/variants/feed_forward.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass

from baselines.allocator import Facts
from baselines.fields import CHECKED, NotNegative, Positive, in_one_sentence
from baselines.method import Method
from baselines.methods.molora import MoLora
from baselines.sizes import TOLERANCE, Shapes, nearest_rank, own_shapes, require_within, residual
from smoe import Probe, block_params, block_shapes, find_blocks
from smoe.variants.feed_forward import PROJECTIONS


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class MixLora(MoLora):
    """y = sum_e w_e FFN_e(x), FFN_e with LoRA on gate, up and down."""

    name: ClassVar[str] = "mixlora"
    summary: ClassVar[str] = "MixLoRA: whole feed-forward nets as experts, one decision for each; LoRA on attention"
    source: ClassVar[str] = "arXiv 2404.15159, github TUDB-Labs/MoE-PEFT@40f8cb7"
    departures: ClassVar[str] = "rank 6, to be as large as others, at their scale; no dropout; no Switch routing"
    later: ClassVar[frozenset[str]] = MoLora.later - {"balance_reduction", "top_p"}

    r: Positive[int] = 6  # rank of every expert, and of the adapters on attention
    num_experts: Positive[int] = 8  # in every feed-forward net
    top_k: Positive[int] | None = 2  # experts a token uses, their gates divided by their sum; none: all, softly
    routing: Literal["top-k", "top-p"] = "top-k"  # top-p: as many as exceed top_p together, gates as they are
    balance_loss: NotNegative[float] = 1e-3  # coefficient
    balance_reduction: Literal["mean", "sum", "pool"] = "pool"  # as published

    @property
    def starts_at_base(self) -> bool:
        """With top-p the gates sum to more than top_p and not to 1, and a net's output is scaled by that."""
        if self.routing == "top-p":
            return self.top_p >= 1
        return self.renormalise or self.top_k is None

    def settings(self) -> dict[str, Any]:
        dynamic = {"router": "top-p", "top_k": None, "renormalise": False} if self.routing == "top-p" else {}
        return {**super().settings(), "feed_forward": True, "router_init": 0.02, **dynamic}

    def check(self, model: torch.nn.Module, tasks: Sequence[str], total_steps: int) -> None:
        super().check(model, tasks, total_steps)
        self._nets(block_shapes(model, self.target_modules))

    def _nets(self, blocks: Mapping[str, object]) -> list[str]:
        """Return those blocks that lie in feed-forward nets. Raises ValueError where a net lacks a projection."""
        inside = [b for b in blocks if b.rsplit(".", 1)[-1] in PROJECTIONS]
        nets = {b.rsplit(".", 1)[0] for b in inside}
        if not nets or len(inside) != len(PROJECTIONS) * len(nets):
            raise ValueError(
                f"{self.name}: an expert is a whole feed-forward net, with {', '.join(PROJECTIONS)}; of {len(nets)} "
                f"nets there are {len(inside)} projections: name all three in --target-modules"
            )
        return inside

    def allocate(self, model: torch.nn.Module, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        blocks = find_blocks(model, self.target_modules)
        return dict.fromkeys(blocks, 1) | dict.fromkeys(self._nets(blocks), self.num_experts), {}

    @property
    def experts_everywhere(self) -> int:
        return 1

    def params(self, shapes: Shapes, experts: int, r: int) -> int:
        """Count what all blocks train: a router for each net, on its input."""
        inside = set(self._nets(shapes))
        total = 0
        for block, shape in shapes.items():
            has_router = block.endswith(PROJECTIONS[0])
            total += block_params(shape, experts if block in inside else 1, r, router=has_router)
        return total

    def matched(self, target_params: int, shapes: Shapes) -> Method:
        """Take the nearest setting, by ratio, of experts and rank together: either alone moves in large steps."""
        targets = own_shapes(shapes, self.target_modules)

        def distance(setting: tuple[int, int]) -> tuple[bool, float]:
            off = abs(residual(self.params(targets, *setting), target_params))
            near = abs(math.log(setting[0] / self.num_experts)) + abs(math.log(setting[1] / self.r))
            return off > TOLERANCE, off if off > TOLERANCE else near

        ranks = {
            e: nearest_rank(partial(self.params, targets, e), target_params) for e in range(2, 2 * self.num_experts)
        }
        experts, r = min(ranks.items(), key=distance)
        require_within(self.name, f"num_experts={experts}, r={r}", self.params(targets, experts, r), target_params)
        return replace(self, num_experts=experts, r=r)

    def matched_experts(self, total: int, shapes: Shapes) -> Method:
        targets = own_shapes(shapes, self.target_modules)
        inside = len(self._nets(targets))
        left = total - (len(targets) - inside)
        if left < 2 * inside or left % inside:
            raise ValueError(
                f"{self.name}: {total} experts are one for each of {len(targets) - inside} blocks of attention and no "
                f"whole number for each of {inside} others"
            )
        return replace(self, num_experts=left // inside)
