"""Experts placed by any importance, and the published methods that are presets of one: AlphaLoRA, MoLA, EVA's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass

from baselines.allocator import Facts
from baselines.experts import Experts
from baselines.fields import CHECKED, NotNegative, Positive, in_one_sentence
from baselines.importance import Rule, layers_of, same_in_a_layer
from baselines.importance.mola import Shape, layer_shape
from smoe import Probe, block_shapes


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class AnyExperts(Experts):
    """The general form: `experts:importance=fim:rule=votes:router=uniform`."""

    name: ClassVar[str] = "experts"
    summary: ClassVar[str] = "a mixture whose experts are placed by any importance"
    source: ClassVar[str] = "baselines/importance"
    # All that says how capacity is placed is in its spec; what came later is there where it is set.
    later: ClassVar[frozenset[str]] = frozenset({"top_p", "threshold", "router_hidden", "balance_reduction"})


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class AlphaLora(Experts):
    """More experts where the weights' spectrum has the lighter tail; all blocks of a layer alike.

        a_l = mean over the layer's matrices of the power-law exponent of the eigenvalues of W^T W
        s_l = total * a_l^beta / sum over layers of a_l^beta

    Released code: numbers are rounded, then repaired by adding and taking away one at a time, which need not end at the
    total. Here: largest remainder, exact.
    """

    name: ClassVar[str] = "alphalora"
    summary: ClassVar[str] = "AlphaLoRA: experts where weight spectra say a layer is less trained"
    source: ClassVar[str] = "arXiv 2410.10054"
    later: ClassVar[frozenset[str]] = Experts.later - {"beta"}

    importance: str = "alpha"
    beta: NotNegative[float] | None = 2.5  # power of the exponent; 0: the same everywhere


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class EvaExperts(Experts):
    """An expert for every principal component of a block's inputs that explains enough.

    EVA pools the components of all blocks and gives ranks to the largest. Here the same list places experts: one for
    each component that makes it. Departure: EVA's ranks / experts of full rank, with LoRA's initialisation, since the
    layer is the same for every allocator. `eva-lora` is EVA itself.
    """

    name: ClassVar[str] = "eva-experts"
    summary: ClassVar[str] = "EVA's explained variance of block inputs, turned into experts"
    source: ClassVar[str] = "arXiv 2410.07170, PEFT"
    later: ClassVar[frozenset[str]] = Experts.later - {"max_experts"}

    importance: str = "eva"
    max_experts: Positive[int] | None = 8  # of any block, hence components looked at; as many as tasks can vote for


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Mola(Experts):
    """MoLA (Gao et al. 2024): experts by layer alone, in a shape over the quarters of the model.

    There r 8, alpha 16, top-2 routing with the chosen gates divided by their sum, which are the defaults here as well.
    With a budget the shape is kept and its numbers are scaled: largest remainder over the layers.
    """

    name: ClassVar[str] = "mola"
    summary: ClassVar[str] = "MoLA: experts by layer quarter, more towards the output"
    source: ClassVar[str] = "arXiv 2402.08562"
    needs_budget: ClassVar[bool] = False

    shape: Shape = "inverted-triangle"  # of the numbers over the quarters of the depth
    top_k: Positive[int] | None = 2  # experts a token uses; none: all, softly
    mean_experts: Positive[float] | None = None  # budget: at most one of three; none: the shape's, mean 5
    rule: Rule | None = "layers"  # how the shape becomes numbers, under a budget

    @property
    def importance_name(self) -> str:
        return f"mola-{self.shape}"

    def check(self, model: torch.nn.Module, tasks: list[str], total_steps: int) -> None:  # type: ignore[override]
        if self.has_budget:
            super().check(model, tasks, total_steps)
        else:
            self.allocate(model, {})

    def allocate(self, model: torch.nn.Module, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        if self.has_budget:
            return super().allocate(model, probe)
        shapes = block_shapes(model, self.target_modules)
        return same_in_a_layer(layer_shape(self.shape, list(layers_of(shapes))), shapes), {}
