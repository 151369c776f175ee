"""LoRA, as PEFT implements it (Hu et al. 2021, arXiv 2106.09685): y = W x + (alpha/r) B A x.

Its variants in PEFT (rsLoRA, DoRA, PiSSA) are subclasses that say which options of PEFT they are.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from peft import LoraConfig, get_peft_model
from pydantic.dataclasses import dataclass

from baselines.fields import CHECKED, Positive, ProperFraction, in_one_sentence
from baselines.method import Attached, Method
from baselines.sizes import Shapes, nearest_rank, own_shapes, require_within
from smoe import DEFAULT_TARGETS, Probe, find_blocks


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Lora(Method):
    """One adapter of rank r on every block."""

    name: ClassVar[str] = "lora"
    summary: ClassVar[str] = "LoRA: one low-rank adapter on every block"
    source: ClassVar[str] = "arXiv 2106.09685, PEFT"
    variant: ClassVar[Mapping[str, Any]] = {}  # further options of PEFT's LoraConfig
    alpha_follows_r: ClassVar[bool] = False  # whether another rank keeps alpha / r, or the size of a step

    r: Positive[int] = 32  # rank; four experts of rank 8 have as many parameters
    alpha: Positive[int] = 64  # scale is alpha / r; one step moves the output by about alpha, as in the mixtures
    dropout: ProperFraction = 0.0  # on the adapter's input; nothing to regularise in one pass, a fifth of a CPU step
    target_modules: tuple[str, ...] = DEFAULT_TARGETS

    def check(self, model: torch.nn.Module, tasks: Sequence[str], total_steps: int) -> None:
        """Raise ValueError where PEFT takes other blocks than these, as it does for some mixtures of experts.

        There it reads the names of a dense layer as those of the fused experts (transformers 5).
        """
        blocks = set(find_blocks(model, self.target_modules))
        plain = LoraConfig(r=1, target_modules=sorted(blocks), init_lora_weights=False)
        try:
            tuner: Any = get_peft_model(copy.deepcopy(model), plain).base_model
            taken = set(tuner.targeted_module_names) | set(tuner.targeted_parameter_names)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error
        if taken != blocks:
            lost = sorted({block.rsplit(".", 1)[-1] for block in blocks - taken})
            rest = sorted({block.rsplit(".", 1)[-1] for block in blocks & taken} - set(lost))
            raise ValueError(
                f"{self.name}: PEFT takes {', '.join(lost)} for {', '.join(sorted(taken - blocks)[:4])}; "
                f"leave them out in all methods: --target-modules {','.join(rest)}"
            )

    def attach(self, model: torch.nn.Module, probe: Probe, total_steps: int) -> Attached:
        config = LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=list(self.target_modules),
            task_type="CAUSAL_LM",
            **self.settings(model),
        )
        return get_peft_model(model, config)

    def settings(self, model: torch.nn.Module) -> Mapping[str, Any]:
        """Options of PEFT's LoraConfig beyond the fields above."""
        return self.variant

    def block_params(self, shape: tuple[int, int], r: int) -> int:
        """Count what a block (in, out) trains at rank r."""
        return r * sum(shape)

    def matched(self, target_params: int, shapes: Shapes) -> Method:
        targets = own_shapes(shapes, self.target_modules)

        def params(r: int) -> int:
            return sum(self.block_params(shape, r) for shape in targets.values())

        r = nearest_rank(params, target_params)
        require_within(self.name, f"r={r}", params(r), target_params)
        return replace(self, r=r, alpha=round(self.alpha * r / self.r) if self.alpha_follows_r else self.alpha)
