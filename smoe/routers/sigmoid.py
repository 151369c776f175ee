"""Sigmoid routers: experts are judged one by one, and the gates of those used are their values over their sum.

    z = sigmoid(R x) + d        g_e = z_e [e in top-k of z] / sum of the chosen z

"sigmoid" has no d, as DeepSeek-V3's affinities (arXiv 2412.19437). "sigmoid-bias" is SMoRA's: d starts at 0, is not
trained, and after every step moves by 1e-5 towards the experts that got fewer tokens than the mean; its released gates
are made of z with d in it (DeepSeek's d chooses alone). SMoRA's experts are single ranks.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch

from smoe.routers import Gates, Router, RouterSettings
from smoe.routers.state import Own, RoutingState

STEP = 1e-5  # of d


class Sigmoid(Router):
    """g = sigmoid(R x), normalised."""

    name: ClassVar[str] = "sigmoid"
    summary: ClassVar[str] = "learned: a sigmoid for every expert, all or the best k, divided by their sum"
    source: ClassVar[str] = "DeepSeek-V3, arXiv 2412.19437"
    rows: ClassVar[Literal["trained", "fixed", "none"]] = "trained"

    def gates(self, logits: torch.Tensor, config: RouterSettings, state: RoutingState, own: Own) -> Gates:
        z = torch.sigmoid(logits.to(torch.promote_types(logits.dtype, torch.float32)))
        if own.bias is not None:
            z = z + own.bias.to(z.dtype)
        chosen = z
        if config.top_k is not None and config.top_k < z.shape[-1]:
            values, index = z.topk(config.top_k, dim=-1)
            chosen = torch.zeros_like(z).scatter(-1, index, values)
        gates = chosen / chosen.sum(-1, keepdim=True) if config.renormalise else chosen
        return z / z.sum(-1, keepdim=True), gates


class SigmoidBias(Sigmoid):
    """g = sigmoid(R x) + d, normalised, d moved towards experts that are used less."""

    name: ClassVar[str] = "sigmoid-bias"
    summary: ClassVar[str] = "learned: sigmoids and a bias that evens out how often experts are used, without a loss"
    source: ClassVar[str] = "SMoRA, arXiv 2501.15103"
    biased: ClassVar[bool] = True


def moved(bias: torch.Tensor, used: torch.Tensor) -> torch.Tensor:
    """Return d + 1e-5 sign(mean count - count); used (E,): tokens that used each expert in the step."""
    used = used.to(bias.dtype)
    return bias + STEP * torch.sign(used.mean() - used)
