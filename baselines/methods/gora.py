"""GoRA (He et al. 2025, github hhnqqq/MyTransformers@4037d4d): ranks and the start of B from the dense gradient.

    share_b = mean |W_b o G_b| / sum,   rank_b = clamp(floor(round(share_b r sum_j (I_j + O_j)) / (I_b + O_b)), 4, 32)
    A kaiming, B = -(gamma / alpha) G A^T (A A^T)^+,  gamma = gora_lr sqrt(I / r_b) sqrt(r_b),  scale alpha / sqrt(r_b)

so that training starts one projected gradient step from the base: dW_0 = -gora_lr sqrt(I / r_b) G A^+ A. The released
head has B with a plus, an ascent step: the minus was lost in commit 321fe07; here it is a minus. Rounding down and the
bounds miss the budget, which is on record; with a budget in parameters (`--match params`) ranks are shared exactly. Its
gradient is a mean over the calibration samples of all tasks together, in the memory of the blocks' weights in fp32.
LoRA+'s ratio of 16 between the rates of B and A is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass

from baselines.allocator import Facts
from baselines.fields import CHECKED, NotNegative, Positive, in_one_sentence
from baselines.importance import EVERY, Measured
from baselines.importance.gora import mean_gradients, union_mean
from baselines.method import Attached, Method
from baselines.ranks import Ranks
from baselines.sizes import Shapes
from smoe import Probe, block_shapes, find_blocks
from smoe.allocation import Grouping


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Gora(Ranks):
    """Ranks by mean |W o G|, and a first step along the gradient; not equal to the base at the start."""

    name: ClassVar[str] = "gora"
    summary: ClassVar[str] = "GoRA: ranks and the start of B from the gradient of the frozen weights"
    source: ClassVar[str] = "GoRA, NeurIPS 2025"

    importance: str = "gora"
    grouping: Grouping = "global"
    r: Positive[int] = 8  # reference rank: its parameters are shared out
    alpha: Positive[int] = 16
    scale: Literal["constant", "equal", "sqrt"] = "sqrt"  # alpha / sqrt(r_b)
    min_rank: NotNegative[int] | None = 4
    max_rank: Positive[int] | None = 32
    init: Literal["gradient", "zero"] = "gradient"  # zero: the ranks alone, B starts at zero
    gora_lr: NotNegative[float] = 5e-2  # size of the step that B starts with

    @property
    def starts_at_base(self) -> bool:
        return self.init == "zero" or self.gora_lr == 0

    @property
    def published(self) -> bool:
        """Whether ranks are rounded as published, and no exact budget is asked for."""
        return self.trainable_params is None and self.total_ranks is None and self.order == "own"

    def _spent(self, measured: Measured, shapes: Shapes) -> dict[str, int]:
        if not self.published or self.rule_name != "proportional":
            return super()._spent(measured, shapes)
        means = {b: math.fsum(s[b] for s in measured.scores.values()) for b in next(iter(measured.scores.values()))}
        low, cap = self.bounds
        return published_ranks(means, shapes, self.r, low, cap or self.largest)

    def allocate(self, model: torch.nn.Module, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        if self.importance != "gora":
            return super().allocate(model, probe)
        return self._allocated(model, joint_gradients(model, self.target_modules, probe))

    def _allocated(
        self, model: torch.nn.Module, gradients: Mapping[str, torch.Tensor]
    ) -> tuple[Mapping[str, int], Facts]:
        scores = {EVERY: union_mean(find_blocks(model, self.target_modules), gradients)}
        return self.placed(Measured(scores, {"importance": scores}), block_shapes(model, self.target_modules))

    def matched(self, target_params: int, shapes: Shapes) -> Method:
        """Share the target out exactly; the published upper bound would be below a larger target's mean rank."""
        return replace(super().matched(target_params, shapes), max_rank=None)  # type: ignore[call-arg]  # of this class

    def attach(self, model: torch.nn.Module, probe: Probe, total_steps: int) -> Attached:
        gradients = joint_gradients(model, self.target_modules, probe)
        own = self.importance == "gora"
        ranks, facts = self._allocated(model, gradients) if own else self.allocate(model, probe)
        attached = self.adapter(model, ranks, facts)
        for block, rank in ranks.items() if self.init == "gradient" else ():
            if rank:
                layer = attached.base_model.model.get_submodule(block)
                a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
                b.data.copy_(first_b(a.data, gradients[block], layer.scaling["default"], self.gora_lr))
        return attached


def published_ranks(means: Mapping[str, float], shapes: Shapes, r: int, low: int, cap: int) -> dict[str, int]:
    """Share out the parameters of rank r over the blocks, round down, and keep ranks within the bounds."""
    whole = math.fsum(means.values())
    if not whole:
        raise ValueError("gora: every block's importance is 0, so that there is nothing to share by")
    everything = r * sum(sum(shapes[b]) for b in means)
    return {b: min(max(round(m / whole * everything) // sum(shapes[b]), low), cap) for b, m in means.items()}


def joint_gradients(model: torch.nn.Module, targets: tuple[str, ...], probe: Probe) -> dict[str, torch.Tensor]:
    """Return the mean gradient (O, I) of each block over the calibration samples of all tasks together."""
    batches = [batch for of_task in probe.values() for batch in of_task]
    return mean_gradients(model, find_blocks(model, targets), batches, "gora")


def first_b(a: torch.Tensor, gradient: torch.Tensor, scaling: float, gora_lr: float) -> torch.Tensor:
    """Return the B (O, r) with scaling B A = -gora_lr sqrt(I / r) G A^+ A, for A (r, I) and G (O, I)."""
    rank, inputs = a.shape
    step = -gora_lr * math.sqrt(inputs / rank) / scaling
    return step * gradient @ torch.linalg.pinv(a.float())
