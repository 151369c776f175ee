"""Router logits -> gate weights by softmax, over all experts or over each token's best k.

Departures: the paper's router is not known (its tuner was never released). Here soft routing is the default, as in
MoLoRA, so that the two methods differ in the allocation alone; top-k is an option.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch

from smoe.routers import Gates, Router, RouterSettings
from smoe.routers.state import Own, RoutingState


def route(
    logits: torch.Tensor, top_k: int | None = None, renormalise: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn router logits (..., E) into probabilities and gates, both (..., E) in fp32.

        p = softmax(z)                   in fp32, whatever the model's precision
        g_e = p_e                        soft routing, or top_k >= E
        g_e = p_e [e in top-k] / sum of the chosen p     (the division only with `renormalise`)

    A gate outside the top k is exactly 0.
    """
    probabilities = torch.softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    experts = logits.shape[-1]
    if top_k is None or top_k >= experts:
        return probabilities, probabilities
    chosen, index = probabilities.topk(top_k, dim=-1)
    if renormalise:
        chosen = chosen / chosen.sum(dim=-1, keepdim=True)
    return probabilities, torch.zeros_like(probabilities).scatter(-1, index, chosen)


class Softmax(Router):
    """The learned linear router."""

    name: ClassVar[str] = "softmax"
    summary: ClassVar[str] = "learned: softmax of a linear map of the token, all experts or its best k"
    source: ClassVar[str] = "arXiv 2309.05444 (soft), arXiv 2402.08562 (top-k)"
    rows: ClassVar[Literal["trained", "fixed", "none"]] = "trained"

    def gates(self, logits: torch.Tensor, config: RouterSettings, state: RoutingState, own: Own) -> Gates:
        return route(logits, config.top_k, config.renormalise)
