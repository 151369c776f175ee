"""AdaLoRA, as PEFT implements it (Zhang et al. 2023, arXiv 2303.10512), driven as it must be.

PEFT's AdaLoRA prunes only when `update_and_allocate(step)` is called after every `optimizer.step()` while the gradients
are still there, and with the true number of steps; it stays silently at `init_r` otherwise, so the final budget is
asserted here. PEFT adds the orthogonality term to a loss that the model computes, in evaluation too; our loop computes
its own loss, so the same term is this method's regularizer, in training alone.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from peft import AdaLoraConfig, get_peft_model
from pydantic.dataclasses import dataclass

from baselines.fields import CHECKED, NotNegative, Positive, ProperFraction, in_one_sentence
from baselines.method import Attached, Method
from baselines.sizes import Shapes, nearest_rank, own_shapes, require_within
from smoe import DEFAULT_TARGETS, Probe


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class AdaLora(Method):
    """W + P diag(lambda) Q with triplets pruned by importance to a mean rank of `target_r`."""

    name: ClassVar[str] = "adalora"
    summary: ClassVar[str] = "AdaLoRA: ranks pruned by importance while training"
    source: ClassVar[str] = "arXiv 2303.10512, PEFT"
    rate: ClassVar[float] = 2e-3  # starts at Lambda = 0 between small P and Q: 4 x the others', and the paper's highest

    init_r: Positive[int] = 48  # rank of every block before pruning, 1.5 x target_r as in the paper
    target_r: Positive[int] = 32  # mean rank at the end
    alpha: Positive[int] = 96  # PEFT's scale is alpha / init_r: 2, as in the other methods
    dropout: ProperFraction = 0.0  # on the adapter's input; nothing to regularise in one pass, a fifth of a CPU step
    warmup: ProperFraction = 0.1  # share of the steps before pruning starts (tinit)
    final: ProperFraction = 0.3  # share of the steps at the final budget (tfinal)
    delta_t: Positive[int] = 1  # steps between two prunings
    beta1: ProperFraction = 0.85  # smoothing of the sensitivity
    beta2: ProperFraction = 0.85  # smoothing of its uncertainty
    orthogonality: NotNegative[float] = 0.5  # weight of the penalty
    target_modules: tuple[str, ...] = DEFAULT_TARGETS

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup + self.final >= 1:
            raise ValueError(f"adalora: warmup {self.warmup} and final {self.final} must leave steps for pruning")
        if self.target_r >= self.init_r:
            raise ValueError(f"adalora: target_r {self.target_r} must be below init_r {self.init_r}")

    def check(self, model: torch.nn.Module, tasks: Sequence[str], total_steps: int) -> None:
        self._schedule(total_steps)

    def attach(self, model: torch.nn.Module, probe: Probe, total_steps: int) -> Attached:
        tinit, tfinal = self._schedule(total_steps)
        config = AdaLoraConfig(
            init_r=self.init_r,
            target_r=self.target_r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            tinit=tinit,
            tfinal=tfinal,
            deltaT=self.delta_t,
            beta1=self.beta1,
            beta2=self.beta2,
            orth_reg_weight=self.orthogonality,
            total_step=total_steps,
            target_modules=list(self.target_modules),
            task_type="CAUSAL_LM",
        )
        return get_peft_model(model, config)

    def _schedule(self, total_steps: int) -> tuple[int, int]:
        """(tinit, tfinal) in steps. Raises ValueError where no importance would be known when the budget is final."""
        tinit, tfinal = round(self.warmup * total_steps), round(self.final * total_steps)
        if total_steps - tfinal <= max(tinit, 1):
            enough = next(n for n in itertools.count(1) if n - round(self.final * n) > max(round(self.warmup * n), 1))
            raise ValueError(
                f"adalora: {total_steps} steps leave none for pruning ({tinit} warm up, {tfinal} are final); it takes "
                f"{enough} or more: ask for more --train-documents or --epochs, or leave adalora out of --methods"
            )
        return tinit, tfinal

    def regularizer(self, model: Attached) -> torch.Tensor:
        """Return the mean distance of the singular vectors' Gram matrices from the identity, weighted.

        Matrices of one shape go through one batched product: on a GPU a launch for each would cost more than the rest.
        """
        by_shape: dict[torch.Size, list[torch.Tensor]] = defaultdict(list)
        for name, p in model.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                rows = p if "lora_A" in name else p.T  # (r, in) or (r, out)
                by_shape[rows.shape].append(rows)
        norms = []
        for matrices in by_shape.values():
            stacked = torch.stack(matrices)
            grams = torch.bmm(stacked, stacked.mT)
            identity = torch.eye(grams.shape[-1], device=grams.device, dtype=grams.dtype)
            norms.append(torch.linalg.matrix_norm(grams - identity))
        return self.orthogonality * torch.cat(norms).mean()

    def after_step(self, model: Attached, step: int) -> None:
        model.base_model.update_and_allocate(step)

    def matched(self, target_params: int, shapes: Shapes) -> Method:
        width = sum(i + o + 1 for i, o in own_shapes(shapes, self.target_modules).values())
        target_r = nearest_rank(lambda r: r * width, target_params)
        require_within(self.name, f"target_r={target_r}", target_r * width, target_params)
        init_r = max(round(target_r * self.init_r / self.target_r), target_r + 1)
        return replace(self, target_r=target_r, init_r=init_r, alpha=round(self.alpha * init_r / self.init_r))

    def matched_params(self, model: Attached) -> int:
        """Return the budget, the mean rank after pruning, of every block; the ranks that stay are known at the end."""
        blocks = [m for m in model.modules() if hasattr(m, "lora_E")]
        return self.target_r * sum(m.in_features + m.out_features + 1 for m in blocks)

    def facts(self, model: Attached) -> dict[str, Any]:
        config = model.peft_config["default"]
        if not config.rank_pattern:
            raise RuntimeError("adalora was never driven: after_step was not called for every step")
        ranks, left = {}, 0
        for name, kept in config.rank_pattern.items():
            block = name.removesuffix(".lora_E.default")
            module = model.base_model.model.get_submodule(block)
            ranks[block] = sum(kept)
            left += ranks[block] * (module.in_features + module.out_features + 1)
        if sum(ranks.values()) != self.target_r * len(ranks):
            raise RuntimeError(
                f"adalora ended at {sum(ranks.values())} ranks over {len(ranks)} blocks, not {self.target_r} each"
            )
        return {"ranks": ranks, "parameters": {"after_pruning": left}}
