"""Ranks placed by any importance, the published methods that are presets of one, and their controls."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass

from baselines.allocator import Order
from baselines.fields import CHECKED, NotNegative, Positive, in_one_sentence
from baselines.importance import Rule
from baselines.importance.eva import explained, principal_components
from baselines.method import Attached
from baselines.ranks import Ranks
from smoe import Probe, block_shapes, find_blocks
from smoe.allocation import Grouping


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class AnyRanks(Ranks):
    """The general form: `ranks:importance=fim:rule=votes`."""

    name: ClassVar[str] = "ranks"
    summary: ClassVar[str] = "LoRA whose ranks are placed by any importance"
    source: ClassVar[str] = "baselines/importance"


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SensitiveRanks(Ranks):
    """What LoRA-SMoE measures, spent as ranks; what it lacks beside LoRA-SMoE is owed to experts."""

    name: ClassVar[str] = "sensitive-ranks"
    summary: ClassVar[str] = "LoRA-SMoE's sensitivity spent as LoRA ranks"
    source: ClassVar[str] = "control of arXiv 2505.06272"


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class RandomRanks(SensitiveRanks):
    """The ranks of `sensitive-ranks` dealt to blocks at random; `allocation_seed` repeats the deal."""

    name: ClassVar[str] = "random-ranks"
    summary: ClassVar[str] = "control: the ranks of sensitive-ranks, dealt to blocks at random"
    order: Order = "shuffled"


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class InverseRanks(SensitiveRanks):
    """High ranks where gradients are small: the scores change places, the most sensitive block gets the smallest."""

    name: ClassVar[str] = "inverse-ranks"
    summary: ClassVar[str] = "control: the ranks of sensitive-ranks where the gradients are small"
    order: Order = "reversed"


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class FimLora(Ranks):
    """FIM-LoRA: rank_b = F_b / sum F x (r x blocks), at most 2 r; what saturated blocks cannot take is shared again.

    Departure: there the rank 1 of blocks that got none is taken from the least important / here the lower bound is part
    of the shares. Rows of A are not kept from the probe, since nothing was trained in it.
    """

    name: ClassVar[str] = "fim-lora"
    summary: ClassVar[str] = "FIM-LoRA: ranks in proportion to the Fisher information of a fresh LoRA's B"
    source: ClassVar[str] = "github Kernel-ML/fim-lora-experiments@9811817"

    importance: str = "fim"
    grouping: Grouping = "global"

    @property
    def largest(self) -> int:
        return self.max_rank or 2 * self.r


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class EvaLora(Ranks):
    """EVA: ranks go to the largest components of all blocks' inputs, and A starts as those directions; B is zero.

    Departures: PEFT's EVA looks at answer tokens alone and stops at a threshold of the variance / all real tokens, no
    threshold, since answers are short here; the ranks add up exactly.
    """

    name: ClassVar[str] = "eva-lora"
    summary: ClassVar[str] = "EVA: ranks by explained variance, A starts as the principal directions of inputs"
    source: ClassVar[str] = "arXiv 2410.07170, PEFT"

    importance: str = "eva"
    rule: Rule | None = None  # how the importance becomes ranks; none: greedy, as EVA does
    rho: Positive[float] = 2.0  # a block's rank is at most rho r; 1: no redistribution
    min_rank: NotNegative[int] | None = 0  # of any block

    @property
    def largest(self) -> int:
        return self.max_rank or round(self.rho * self.r)

    def attach(self, model: torch.nn.Module, probe: Probe, total_steps: int) -> Attached:
        fits = principal_components(model, find_blocks(model, self.target_modules), probe, self.largest)
        own = self.importance == "eva"  # then the same decomposition says where the ranks go
        placed = self.placed(explained(fits, probe), block_shapes(model, self.target_modules)) if own else None
        attached = self.adapter(model, *(placed or self.allocate(model, probe)))
        for block, rank in attached.allocation_facts["ranks"].items():
            if rank:
                directions = fits[block][1]
                if len(directions) < rank:
                    raise ValueError(f"{self.name}: {block} has {len(directions)} components for a rank of {rank}")
                a = attached.base_model.model.get_submodule(block).lora_A["default"].weight
                a.data.copy_(directions[:rank])
        return attached
