"""rsLoRA, as PEFT implements it (Kalajdzievski 2023, arXiv 2312.03732): LoRA with the scale alpha / sqrt(r).

LoRA's alpha / r makes updates vanish as the rank grows; divided by the square root they keep their size. alpha is
therefore the expert methods' 16 and stays when the rank is changed, which is the point of the method.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from baselines.fields import CHECKED, Positive, in_one_sentence
from baselines.methods.lora import Lora


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class RsLora(Lora):
    """y = W x + (alpha / sqrt(r)) B A x."""

    name: ClassVar[str] = "rslora"
    summary: ClassVar[str] = "rsLoRA: LoRA scaled by alpha / sqrt(r)"
    source: ClassVar[str] = "arXiv 2312.03732, PEFT"
    variant: ClassVar[Mapping[str, Any]] = {"use_rslora": True}
    alpha: Positive[int] = 16  # scale is alpha / sqrt(r), 2.8 at the default rank
