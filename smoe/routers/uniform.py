"""A control: every token uses every expert alike, so that there is no router at all.

The update is then that of one LoRA of rank E r with A and B stacked, at the scale alpha / (r E): it can be merged.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch

from smoe.routers import Router, RouterSettings
from smoe.routers.state import Own, RoutingState


class Uniform(Router):
    """g_e = 1/E."""

    name: ClassVar[str] = "uniform"
    summary: ClassVar[str] = "control: no router, every expert has the weight 1/E"
    source: ClassVar[str] = "control"
    rows: ClassVar[Literal["trained", "fixed", "none"]] = "none"
    constant: ClassVar[bool] = True

    def check(self, config: RouterSettings) -> None:
        if config.top_k is not None:
            raise ValueError(f"router uniform uses every expert: leave top_k {config.top_k} out")

    def gates(
        self, logits: torch.Tensor, config: RouterSettings, state: RoutingState, own: Own
    ) -> tuple[torch.Tensor, torch.Tensor]:
        wide = torch.promote_types(logits.dtype, torch.float32)
        gates = torch.full_like(logits, 1 / logits.shape[-1], dtype=wide)
        return gates, gates
