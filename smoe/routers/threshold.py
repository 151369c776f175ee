"""AdaMoLE's router: an expert is used where its probability is above a threshold that depends on the token.

    p = softmax(R x)        tau(x) = tau_max sigmoid(v x + b)        c = p - tau        g = relu(c) / sum_e relu(c_e)

The largest probability is at least 1/E, so that with tau_max = 1/E an expert is always open. v is one more row of the
router's product. Departures from the released code: it runs expert 0 on all tokens, and leaves the balance loss out
where the input asks for no gradient; neither is done here.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch

from smoe.routers import Router, RouterSettings
from smoe.routers.balance import token_weight
from smoe.routers.state import Own, Routed, RoutingState


class Threshold(Router):
    """g = relu(p - tau(x)), normalised."""

    name: ClassVar[str] = "threshold"
    summary: ClassVar[str] = "learned: every expert whose probability is above a learned threshold of the token"
    source: ClassVar[str] = "AdaMoLE, arXiv 2405.00361"
    rows: ClassVar[Literal["trained", "fixed", "none"]] = "trained"
    sparse: ClassVar[bool] = True
    extra_rows: ClassVar[int] = 1
    numbers: ClassVar[int] = 1

    def check(self, config: RouterSettings) -> None:
        super().check(config)
        fewest = min((n for n in config.expert_pattern.values() if n > 1), default=config.num_experts)
        if config.threshold is not None and not 0 <= config.threshold <= 1 / fewest:
            raise ValueError(
                f"threshold must lie in [0, 1/E] = [0, {1 / fewest:g}], so that an expert is open for every token, got "
                f"{config.threshold!r}"
            )

    def first_numbers(self, inputs: int, hidden: int, generator: torch.Generator) -> torch.Tensor:
        return (2 * torch.rand(1, generator=generator) - 1) / math.sqrt(inputs)  # as torch.nn.Linear draws a bias

    def gates(self, logits: torch.Tensor, config: RouterSettings, state: RoutingState, own: Own) -> Routed:
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        assert own.numbers is not None  # a layer gives a router what it asks for
        probabilities = torch.softmax(wide[..., :-1], dim=-1)
        highest = 1 / probabilities.shape[-1] if config.threshold is None else config.threshold
        margins = probabilities - highest * torch.sigmoid(wide[..., -1:] + own.numbers.to(wide.dtype))
        open_ = margins.relu()
        return Routed(probabilities, open_ / open_.sum(-1, keepdim=True), margins)

    def balance(self, routed: Routed, config: RouterSettings, mask: torch.Tensor | None) -> torch.Tensor:
        """E sum_e f_e mean(c_e), f_e the share of tokens with c_e >= 0: of the margins, not of the probabilities."""
        assert routed.margins is not None
        experts = routed.margins.shape[-1]
        margins = routed.margins.reshape(-1, experts)
        weight = token_weight(margins, mask)
        sent = ((margins.detach() >= 0) * weight).sum(0)
        return experts * (sent * (margins * weight).sum(0)).sum()
