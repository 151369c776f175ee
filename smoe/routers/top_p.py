"""Top-p routing: the smallest set of experts whose probabilities together exceed top_p, as MoE-PEFT's "dynamic".

The expert that crosses it is in. Released: gates are the probabilities as they are; `renormalise` divides them by
their sum. top_p 1 is soft routing.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch

from smoe.routers import Gates, Router, RouterSettings
from smoe.routers.state import Own, RoutingState


class TopP(Router):
    """g_e = p_e for the most probable experts, as many as it takes."""

    name: ClassVar[str] = "top-p"
    summary: ClassVar[str] = "learned: the most probable experts, as many as it takes to exceed top_p together"
    source: ClassVar[str] = "github TUDB-Labs/MoE-PEFT@40f8cb7, arXiv 2403.07652"
    rows: ClassVar[Literal["trained", "fixed", "none"]] = "trained"
    sparse: ClassVar[bool] = True

    def check(self, config: RouterSettings) -> None:
        super().check(config)
        if not 0 < config.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], got {config.top_p!r}")

    def gates(self, logits: torch.Tensor, config: RouterSettings, state: RoutingState, own: Own) -> Gates:
        probabilities = torch.softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
        if config.top_p >= 1:
            return probabilities, probabilities
        falling, order = probabilities.sort(dim=-1, descending=True)
        kept = falling * (falling.cumsum(-1) - falling <= config.top_p)  # what came before has not exceeded it
        if config.renormalise:
            kept = kept / kept.sum(-1, keepdim=True)
        return probabilities, torch.zeros_like(probabilities).scatter(-1, order, kept)
