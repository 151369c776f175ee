"""The routers of rivals, measured beside the soft one in the same layers.

A router is measured in the layers that have an input in common, as q, k and v do, against the same layers with the soft
router: whatever it computes once for them is shared as it is in a model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft import get_peft_model
from torch import nn

from benchmarks.models.load import DTYPES
from benchmarks.speed.ratios import Ratio, SideBySide, Subject, Target, ratio
from benchmarks.speed.setting import Setting
from smoe import SMoEConfig, routers

SOFT = "softmax"
ROUTERS = tuple(n for n, cls in routers().items() if cls.rows == "trained" and n != SOFT)
PROJECTIONS = ("q", "k", "v")
EXPERTS, R, ALPHA = 8, 8, 16


class Attention(nn.ModuleDict):
    """Projections of one input, added up."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([projection(x) for projection in self.values()]).sum(0)


def targets(device: str) -> list[Target]:
    """Return the ratios measured on `device`, with their bounds."""
    return [Target(name=f"router {name}: time of the layers / with the soft router", bound=1.15) for name in ROUTERS]


def prepare(setting: Setting) -> Subject:
    """Forward and backward of three layers on one input, once with every router."""
    torch.manual_seed(0)
    dtype = DTYPES[setting.dtype]
    x = torch.randn(setting.tokens, setting.width, dtype=dtype, device=setting.device, requires_grad=True)
    g = torch.randn(setting.tokens, setting.width, dtype=dtype, device=setting.device)

    def passes(name: str) -> Callable[[], None]:
        kind: dict[str, Any] = {"bias": False, "dtype": dtype, "device": setting.device}
        model: Any = Attention({p: nn.Linear(setting.width, setting.width, **kind) for p in PROJECTIONS})
        config = SMoEConfig(
            r=R, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=list(PROJECTIONS), num_experts=EXPERTS, router=name
        )
        tuned: Any = get_peft_model(model, config).train()

        def forward_and_backward() -> None:
            tuned(x).backward(g)
            x.grad = None
            tuned.zero_grad(set_to_none=True)

        return forward_and_backward

    contest = SideBySide({name: passes(name) for name in (SOFT, *ROUTERS)}, setting.device)

    def rows() -> list[Ratio]:
        soft = f"{1000 * contest.median(SOFT):.1f} ms"
        return [
            ratio(target, contest.over(name, SOFT), f"{1000 * contest.median(name):.1f} ms / {soft}")
            for name, target in zip(ROUTERS, targets(setting.device), strict=True)
        ]

    return Subject(contest, setting.rounds(40), rows)
