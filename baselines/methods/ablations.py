"""Ablations of LoRA-SMoE: each changes one default: the grouping, the rule, or what is measured."""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from baselines.fields import CHECKED, Positive, in_one_sentence
from baselines.importance import Rule
from baselines.methods.lora_smoe import LoraSMoE
from smoe.allocation import Grouping
from smoe.sensitivity import Mode


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SmoeType(LoraSMoE):
    """Seven groups; the layers compete, the projections do not."""

    name: ClassVar[str] = "smoe-type"
    summary: ClassVar[str] = "LoRA-SMoE with blocks ranked within each projection type"
    source: ClassVar[str] = "arXiv 2505.06272, ablation"

    grouping: Grouping = "type"  # blocks ranked against each other


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SmoeGlobal(LoraSMoE):
    """One group; attention and MLP blocks compete."""

    name: ClassVar[str] = "smoe-global"
    summary: ClassVar[str] = "LoRA-SMoE with all blocks ranked together"
    source: ClassVar[str] = "arXiv 2505.06272, ablation"

    grouping: Grouping = "global"  # blocks ranked against each other


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SmoeAttention(LoraSMoE):
    """The budget in mean experts is over the attention blocks."""

    name: ClassVar[str] = "smoe-attention"
    summary: ClassVar[str] = "LoRA-SMoE on the attention blocks alone"
    source: ClassVar[str] = "arXiv 2505.06272, ablation"

    grouping: Grouping = "attention"  # blocks that take part


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SmoeMlp(LoraSMoE):
    """The budget in mean experts is over the MLP blocks."""

    name: ClassVar[str] = "smoe-mlp"
    summary: ClassVar[str] = "LoRA-SMoE on the MLP blocks alone"
    source: ClassVar[str] = "arXiv 2505.06272, ablation"

    grouping: Grouping = "mlp"  # blocks that take part


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SmoeProportional(LoraSMoE):
    """Largest remainder on the tasks' normalised scores; see smoe/proportional.py."""

    name: ClassVar[str] = "smoe-proportional"
    summary: ClassVar[str] = "LoRA-SMoE with experts in proportion to sensitivity, no votes"
    source: ClassVar[str] = "arXiv 2505.06272, ablation"

    rule: Rule | None = "proportional"
    max_experts: Positive[int] | None = 8  # of any block; as many as eight tasks can vote for


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SmoeReleased(LoraSMoE):
    """Clipping by layer takes the differences between layers away; see smoe/sensitivity.py."""

    name: ClassVar[str] = "smoe-released"
    summary: ClassVar[str] = "LoRA-SMoE with sensitivity measured as the released code does"
    source: ClassVar[str] = "arXiv 2505.06272, ablation"

    mode: Mode = "released"  # how sensitivity is measured
