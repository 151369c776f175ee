"""A softmax router some of whose experts are shut: their logits are masked to minus infinity, their gates exactly 0.

Which are shut is set from outside, for good, by who trains the model (as baselines/methods/rivals/dmep.py): the block's
bias is 0 for an open expert and minus infinity for a shut one, and is saved with the adapter.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from smoe.routers import Gates, RouterSettings
from smoe.routers.softmax import Softmax, route
from smoe.routers.state import Own, RoutingState


class Pruned(Softmax):
    """g = softmax(R x + d), d 0 or minus infinity."""

    name: ClassVar[str] = "pruned"
    summary: ClassVar[str] = "learned: softmax over the experts that have not been shut while training"
    source: ClassVar[str] = "DMEP, arXiv 2604.26340"
    biased: ClassVar[bool] = True

    def gates(self, logits: torch.Tensor, config: RouterSettings, state: RoutingState, own: Own) -> Gates:
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if own.bias is not None:
            wide = wide + own.bias.to(wide.dtype)
        return route(wide, config.top_k, config.renormalise)
