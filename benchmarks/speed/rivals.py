"""What released mixtures of LoRA experts do, to be measured beside our layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class LoopOverExperts(nn.Module):
    """The layer as released mixtures of LoRA experts compute it: one small product per expert, then a weighted sum."""

    def __init__(self, base: nn.Linear, experts: int, r: int = 8, alpha: float = 16, dropout: float = 0.05) -> None:
        super().__init__()
        self.base, self.scaling, self.dropout = base, alpha / r, nn.Dropout(dropout)
        kind: dict[str, Any] = {"bias": False, "dtype": base.weight.dtype}
        self.router = nn.Linear(base.in_features, experts, **kind)
        self.A = nn.ModuleList(nn.Linear(base.in_features, r, **kind) for _ in range(experts))
        self.B = nn.ModuleList(nn.Linear(r, base.out_features, **kind) for _ in range(experts))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, dropped = self.base(x), self.dropout(x)
        gates = torch.softmax(self.router(dropped).float(), -1).to(x.dtype)
        for e, (a, b) in enumerate(zip(self.A, self.B, strict=True)):
            y = y + self.scaling * gates[..., e : e + 1] * b(a(dropped))
        return y
