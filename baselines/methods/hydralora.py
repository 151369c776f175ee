"""HydraLoRA (Tian et al. 2024, arXiv 2404.19245): one A that the experts of a block share, a B for each, soft routing.

There the number of Bs comes from clustering the data (three in most tables); here four experts everywhere, as in the
other mixtures, so that the shared A is the difference. The layer is LoRA-SMoE's with its option `share_A`.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from baselines.fields import CHECKED, in_one_sentence
from baselines.methods.molora import MoLora


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class HydraLora(MoLora):
    """y = W x + (alpha/r) sum_e g_e(x) B_e A x."""

    name: ClassVar[str] = "hydralora"
    summary: ClassVar[str] = "HydraLoRA: one A for all experts of a block, a B for each"
    source: ClassVar[str] = "arXiv 2404.19245"
    share_A: ClassVar[bool] = True
