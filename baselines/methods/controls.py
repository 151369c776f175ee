"""Controls of LoRA-SMoE: as many experts, placed at random or where the gradients are small."""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from baselines.allocator import Order
from baselines.fields import CHECKED, in_one_sentence
from baselines.methods.lora_smoe import LoraSMoE


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class RandomExperts(LoraSMoE):
    """LoRA-SMoE's histogram, shuffled over the blocks of the grouping, to ask: does sensitivity beat chance.

    The histogram (how many blocks have 0, 1, 2, ... experts) is that of LoRA-SMoE's own allocation on the same
    calibration samples, so the sensitivity pass is run first, at its cost. Every seed of a run shuffles anew, unless
    `allocation_seed` is set: it tells the luck of the placing from that of training.
    """

    name: ClassVar[str] = "random-experts"
    summary: ClassVar[str] = "control: LoRA-SMoE's numbers of experts, dealt to blocks at random"
    source: ClassVar[str] = "control of arXiv 2505.06272"
    later: ClassVar[frozenset[str]] = LoraSMoE.later - {"allocation_seed"}

    order: Order = "shuffled"


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class InverseExperts(LoraSMoE):
    """Votes for the lowest scores: the scores change places, so that the ranking of the blocks is reversed.

    If sensitivity says where experts help, this does worse than chance; if it does no worse than LoRA-SMoE, the premise
    of the paper is in doubt.
    """

    name: ClassVar[str] = "inverse-experts"
    summary: ClassVar[str] = "control: LoRA-SMoE's experts where the gradients are small"
    source: ClassVar[str] = "control of arXiv 2505.06272"

    order: Order = "reversed"
