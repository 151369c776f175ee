"""HydraLoRA (Tian et al. 2024, arXiv 2404.19245): one A that the experts of a block share, a B for each, soft routing.

There the number of Bs comes from clustering the data (three in most tables); here four experts everywhere, as in the
other mixtures, so that the shared A is the difference. The layer is LoRA-SMoE's with its option `share_A`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from baselines.methods.molora import MoLora


@dataclass(frozen=True, kw_only=True)
class HydraLora(MoLora):
    """y = W x + (alpha/r) sum_e g_e(x) B_e A x."""

    name: ClassVar[str] = "hydralora"
    summary: ClassVar[str] = "HydraLoRA: one A for all experts of a block, a B for each"
    source: ClassVar[str] = "arXiv 2404.19245"
    share_A: ClassVar[bool] = True
