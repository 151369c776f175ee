"""GuiLoMo (arXiv 2506.14646): experts of every block and the rank of every expert, learned before the training.

The search is in baselines/bilevel.py, and its cost is the allocation's. Then E = argmax + 1, at least 2, experts of
rank argmax + 1 in every block, top-2, B zero. There 4 epochs of search and 20 of training; here one epoch of the run's
own training batches (without a run, as in a test, the calibration samples once). Released: every expert has alpha
over the rank of the last expert / here by its own. There is no budget; `--match params` multiplies the ranks that were
found by one factor (ours).

Only the entry that is in force gets a gradient, so the search keeps its random argmax or falls to the next largest
entry of the start: `guilomo:search_epochs=0` is the allocation at that start and must stand beside it. On record: how
many of the choices moved ("search"). How far two searches agree is told by the "experts" of runs with two seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass

from baselines.allocator import Facts
from baselines.bilevel import Batch, Found, Space, search
from baselines.experts import ExpertMethod
from baselines.fields import CHECKED, NotNegative, Positive, in_one_sentence
from baselines.method import Method
from baselines.sizes import Shapes, own_shapes
from smoe import Probe, block_shapes, find_blocks


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class GuiLoMo(ExpertMethod):
    """A mixture whose experts differ in rank within a block."""

    name: ClassVar[str] = "guilomo"
    summary: ClassVar[str] = "GuiLoMo: numbers of experts and their ranks from a two-level search"
    source: ClassVar[str] = "arXiv 2506.14646, github Liar406/Gui-LoMo@6aabed0"
    departures: ClassVar[str] = "one epoch of search, not 4; alpha over each expert's own rank; ranks scaled by --match"
    least_experts: ClassVar[int] = 2

    r: Positive[int] = 8  # largest rank of an expert
    num_experts: Positive[int] = 8  # at most, in every block
    top_k: Positive[int] | None = 2  # experts a token uses; none: all, softly
    balance_loss: NotNegative[float] = 1e-3  # coefficient
    search_epochs: NotNegative[float] = 1.0  # of the training documents; 0: the random start of a search
    search_lr: Positive[float] = 3e-4  # of the weights while searching
    arch_lr: NotNegative[float] = 3e-3  # of what is searched
    trainable_params: Positive[int] | None = None  # scale all ranks to so many; none: as they were found

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_experts < self.least_experts:
            raise ValueError(f"{self.name}: num_experts {self.num_experts} leaves nothing to search; 2 or more")

    @property
    def search_over(self) -> float:
        return self.search_epochs

    def search(self, model: torch.nn.Module, batches: Iterable[Batch]) -> None:
        model.__dict__["searched"] = self._found(model, batches)  # until `attach` takes it

    def _found(self, model: torch.nn.Module, batches: Iterable[Batch]) -> Found:
        space = Space(
            experts=self.num_experts, r=self.r, top_k=self.top_k or self.num_experts, learning_rate=self.search_lr,
            arch_rate=self.arch_lr,
        )  # fmt: skip
        return search(model, find_blocks(model, self.target_modules), batches, space)

    def allocate(self, model: torch.nn.Module, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        found = model.__dict__.pop("searched", None)
        if found is None:
            of_probe = [batch for batches in probe.values() for batch in batches]
            found = self._found(model, of_probe if self.search_epochs else [])
        ranks = found.ranks
        if self.trainable_params is not None:
            ranks = scaled(ranks, block_shapes(model, self.target_modules), self.trainable_params)
        start = {block: len(of_experts) for block, of_experts in found.start.items()}
        facts = {"expert_ranks": ranks, "search": {**found.facts, "experts_at_start": start}}
        return {block: len(of_experts) for block, of_experts in ranks.items()}, facts

    def matched(self, target_params: int, shapes: Shapes) -> Method:
        own = own_shapes(shapes, self.target_modules)
        most = {block: [1] * self.num_experts for block in own}  # whatever is found can be made as small as this
        if (least := params(most, own)) > target_params:
            raise ValueError(
                f"{self.name} cannot be sure of {target_params:,} trainable parameters: {self.num_experts} experts "
                f"of rank 1 have {least:,}; ask for fewer num_experts"
            )
        return replace(self, trainable_params=target_params)

    def matched_experts(self, total: int, shapes: Shapes) -> Method:
        raise ValueError(f"{self.name}: how many experts there are is what it looks for: ask for --match params")


def params(ranks: Mapping[str, Sequence[int]], shapes: Shapes) -> int:
    """Count what experts of these ranks and their routers train."""
    total = 0
    for block, of_experts in ranks.items():
        inputs, outputs = shapes[block]
        total += sum(of_experts) * (inputs + outputs) + (len(of_experts) * inputs if len(of_experts) > 1 else 0)
    return total


def scaled(ranks: Mapping[str, Sequence[int]], shapes: Shapes, target: int) -> dict[str, list[int]]:
    """Return the ranks times one factor, rounded and at least 1, with the parameters nearest to `target`."""

    def times(factor: float) -> dict[str, list[int]]:
        return {block: [max(round(factor * r), 1) for r in of_experts] for block, of_experts in ranks.items()}

    low, high = 0.0, 1.0
    while params(times(high), shapes) < target:
        high *= 2
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if params(times(middle), shapes) < target else (low, middle)
    made, larger = times(low), times(high)
    for block, of_experts in made.items():  # where many ranks are rounded up at once, as many as it takes
        for e in range(len(of_experts)):
            if params(made, shapes) >= target:
                return made
            of_experts[e] = larger[block][e]
    return made
