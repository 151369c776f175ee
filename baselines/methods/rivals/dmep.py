"""DMEP (arXiv 2604.26340): start with more experts than the budget, keep those that are used, go on with them.

No code is public, and the abstract says what and not how. Said there: experts are pruned by how much they are used
while training, 35 to 43% of the parameters go, the balance loss is on before and off after. Ours: 8 experts at first,
top-2, a moving average (0.9) of every expert's share of its block's token slots, one pruning at 30% of the steps, those
kept that are used most over all blocks, at least one in each, until the parameters that are left are half.

The tensors stay, as AdaLoRA's do: logits of pruned experts are masked to minus infinity, so that their gates are
exactly 0, and "after_pruning" counts what is left. The rival of allocation before training, at the level of experts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic.dataclasses import dataclass

from baselines.allocator import Facts
from baselines.fields import CHECKED, NotNegative, Positive, ProperFraction, in_one_sentence
from baselines.method import Attached, Method
from baselines.methods.molora import MoLora
from baselines.sizes import Shapes, own_shapes
from smoe import block_params, block_shapes, smoe_layers


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Dmep(MoLora):
    """Top-2 of 8 experts, of which about half are masked from a point of the training on."""

    name: ClassVar[str] = "dmep"
    summary: ClassVar[str] = "DMEP: experts pruned by how much they are used while training"
    source: ClassVar[str] = "arXiv 2604.26340 (abstract; no code)"
    departures: ClassVar[str] = "ours, for want of a description: when, by what average, and how many are pruned"

    num_experts: Positive[int] = 8  # in every block, before pruning
    top_k: Positive[int] | None = 2  # experts a token uses
    router: str = "pruned"
    balance_loss: NotNegative[float] = 1e-2  # coefficient, until experts are pruned
    prune_at: ProperFraction = 0.3  # share of the steps before that
    smoothing: ProperFraction = 0.9  # of the average share of token slots
    keep: ProperFraction = 0.5  # share of the parameters that is left ...
    trainable_params: Positive[int] | None = None  # ... or their number

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.router != "pruned" or self.top_k is None:
            raise ValueError(f"{self.name}: experts are pruned by use, which takes router pruned and a top_k")

    def check(self, model: torch.nn.Module, tasks: Sequence[str], total_steps: int) -> None:
        super().check(model, tasks, total_steps)
        shapes = block_shapes(model, self.target_modules)
        least, most = (sum(block_params(s, n, self.r) for s in shapes.values()) for n in (1, self.num_experts))
        if not least <= self.budget(shapes) <= most:
            raise ValueError(
                f"{self.name}: {self.budget(shapes):,} parameters cannot be left of {most:,}: one expert a block "
                f"takes {least:,}"
            )
        if total_steps and self.pruned_after(total_steps) >= total_steps:
            raise ValueError(f"{self.name}: {total_steps} steps leave none after pruning; it takes 2 or more")

    def budget(self, shapes: Shapes) -> int:
        """Return the parameters that are left after pruning."""
        whole = sum(block_params(shape, self.num_experts, self.r) for shape in shapes.values())
        return self.trainable_params or round(self.keep * whole)

    def pruned_after(self, total_steps: int) -> int:
        """Return the step after which experts are pruned, from 1."""
        return max(round(self.prune_at * total_steps), 1)

    def attach(self, model: torch.nn.Module, probe: Mapping[str, Any], total_steps: int) -> Attached:
        attached = super().attach(model, probe, total_steps)
        attached.expert_use = {}  # {block: average share of its token slots, (E,)}
        attached.pruned_after = self.pruned_after(total_steps)
        return attached

    def after_step(self, model: Attached, step: int) -> None:
        for (block, _), counts in model.base_model.routing.take_used().items():
            share = counts / counts.sum()
            before = model.expert_use.get(block)
            model.expert_use[block] = share if before is None else torch.lerp(share, before, self.smoothing)
        if step == model.pruned_after:
            self._prune(model)

    def _prune(self, model: Attached) -> None:
        layers = smoe_layers(model)
        shapes = {block: (layer.in_features, layer.out_features) for block, layer in layers.items()}
        use = {block: shares.tolist() for block, shares in model.expert_use.items()}
        for block, experts in most_used(use, shapes, self.r, self.budget(shapes)).items():
            shut = torch.full((self.num_experts,), -math.inf, device=layers[block].smoe_d["default"].device)
            shut[experts] = 0.0
            layers[block].smoe_d["default"] = shut
        model.peft_config["default"].balance_loss = 0.0

    def facts(self, model: Attached) -> Facts:
        made = super().facts(model)
        left = {block: int((m.smoe_d["default"] == 0).sum()) for block, m in smoe_layers(model).items()}
        if set(left.values()) == {self.num_experts} and self.num_experts > 1:
            raise RuntimeError(f"{self.name} was never driven: after_step was not called for every step")
        after = sum(
            block_params((m.in_features, m.out_features), left[b], self.r) for b, m in smoe_layers(model).items()
        )
        return {**made, "experts_left": left, "parameters": {**made["parameters"], "after_pruning": after}}

    def matched(self, target_params: int, shapes: Shapes) -> Method:
        """Let as many parameters be left; the experts before pruning stay. Raises ValueError where they are too few."""
        targets = own_shapes(shapes, self.target_modules)
        least, most = (sum(block_params(s, n, self.r) for s in targets.values()) for n in (1, self.num_experts))
        if not least <= target_params <= most:
            raise ValueError(
                f"{self.name} cannot have {target_params:,} trainable parameters after pruning; nearest possible: "
                f"{min(max(target_params, least), most):,}"
            )
        return replace(self, trainable_params=target_params)

    def matched_experts(self, total: int, shapes: Shapes) -> Method:
        raise ValueError(f"{self.name}: how many experts are left is known at the end: ask for --match params")

    def matched_params(self, model: Attached) -> int:
        """Return the budget: what is left after pruning."""
        return self.budget({b: (m.in_features, m.out_features) for b, m in smoe_layers(model).items()})


def most_used(use: Mapping[str, Sequence[float]], shapes: Shapes, r: int, budget: int) -> dict[str, list[int]]:
    """Return the experts of every block that are kept: the best of each, then the most used that the budget holds.

    use: share of the block's token slots of each expert. Ties go to the earlier block and expert.
    """
    kept = {block: [max(range(len(shares)), key=list(shares).__getitem__)] for block, shares in use.items()}
    spent = sum(block_params(shapes[block], 1, r) for block in kept)
    rest = [
        (-shares[e], i, e, b)
        for i, (b, shares) in enumerate(use.items())
        for e in range(len(shares))
        if e not in kept[b]
    ]
    for _, _, expert, block in sorted(rest):
        now, more = (block_params(shapes[block], len(kept[block]) + n, r) for n in (0, 1))
        if spent + more - now <= budget:
            spent += more - now
            kept[block].append(expert)
    return {block: sorted(experts) for block, experts in kept.items()}
