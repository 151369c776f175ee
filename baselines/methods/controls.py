"""Controls of LoRA-SMoE: as many experts, placed at random or where the gradients are small."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass

from baselines.experts import Facts
from baselines.fields import CHECKED, NotNegative, in_one_sentence
from baselines.methods.lora_smoe import LoraSMoE
from baselines.sizes import Shapes
from smoe import BudgetError, Probe, block_params, block_shapes, grouped

CLOSE = 0.005  # of the budget in parameters
TRIES = 100_000  # exchanges looked at before giving up


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class RandomExperts(LoraSMoE):
    """LoRA-SMoE's histogram, shuffled over the blocks of the grouping, to ask: does sensitivity beat chance.

    The histogram (how many blocks have 0, 1, 2, ... experts) is that of LoRA-SMoE's own allocation on the same
    calibration samples, so the sensitivity pass is run first, at its cost. Every seed of a run shuffles anew, unless
    `allocation_seed` is set: it tells the luck of the placing from that of training. Blocks differ in size, so chance
    does not meet a budget in parameters: with one, two blocks at a time change places until it is met within half a
    percent.
    """

    name: ClassVar[str] = "random-experts"
    summary: ClassVar[str] = "control: LoRA-SMoE's numbers of experts, dealt to blocks at random"
    source: ClassVar[str] = "control of arXiv 2505.06272"

    allocation_seed: NotNegative[int] | None = None  # of the shuffle; none: drawn with the run's seed

    def allocate(self, model: torch.nn.Module, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        experts, facts = super().allocate(model, probe)
        seed = self.allocation_seed
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        shuffled = dict(experts)
        inside = [b for members in grouped(list(experts), self.grouping).values() for b in members]
        for block, i in zip(inside, torch.randperm(len(inside), generator=generator).tolist(), strict=True):
            shuffled[block] = experts[inside[i]]
        if self.trainable_params is not None:
            shapes = block_shapes(model, self.target_modules)
            exchange(shuffled, inside, shapes, self.r, self.trainable_params, generator)
        return shuffled, facts


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class InverseExperts(LoraSMoE):
    """Votes for the lowest scores: each task's s becomes max(s) - s.

    If sensitivity says where experts help, this does worse than chance; if it does no worse than LoRA-SMoE, the premise
    of the paper is in doubt.
    """

    name: ClassVar[str] = "inverse-experts"
    summary: ClassVar[str] = "control: LoRA-SMoE's experts where the gradients are small"
    source: ClassVar[str] = "control of arXiv 2505.06272"

    def _allocation(self, model: torch.nn.Module, scores: Mapping[str, Mapping[str, float]]) -> Mapping[str, int]:
        return super()._allocation(model, {task: reversed_scores(by_block) for task, by_block in scores.items()})


def exchange(
    experts: dict[str, int],
    blocks: list[str],
    shapes: Shapes,
    r: int,
    target: int,
    generator: torch.Generator | None = None,
) -> None:
    """Let random pairs of `blocks` change places, in place, where that brings the parameters nearer to `target`.

    generator: of the pairs; None: torch's global one. Raises BudgetError where no arrangement comes near enough.
    """

    def cost(block: str, n: int) -> int:
        return block_params(shapes[block], n, r)

    off = sum(cost(b, n) for b, n in experts.items()) - target
    for _ in range(TRIES):
        if abs(off) <= CLOSE * target:
            return
        a, b = (blocks[i] for i in torch.randint(len(blocks), (2,), generator=generator).tolist())
        had, gets = experts[a], experts[b]
        change = cost(a, gets) - cost(a, had) + cost(b, had) - cost(b, gets)
        if abs(off + change) < abs(off):
            experts[a], experts[b], off = gets, had, off + change
    raise BudgetError(f"no arrangement of these experts with {target} parameters was found; nearest: {target + off}")


def reversed_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """Return scores that rank the blocks the other way round."""
    largest = max(scores.values())
    return {block: largest - score for block, score in scores.items()}
