"""Experts by EVA's measure (Paischer et al. 2024, arXiv 2410.07170): forward passes alone, no gradients.

EVA pools, over all blocks, the share of the variance of a block's inputs that each of their principal components
explains, and gives ranks to the largest. Here the same list hands out experts: one for each component that makes it.

Departures: EVA's ranks / experts of full rank, with LoRA's initialisation, since the layer is the same for every
allocator. PEFT's EVA passes over the data until components stop turning and hashes inputs to see which blocks share
them / one pass over the probe, blocks in a row that get the very same tensor share it. PEFT looks at answer tokens
alone and advises against it where they are few / all tokens but padding. The incremental decomposition is PEFT's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from peft.utils.incremental_pca import IncrementalPCA

from baselines.budgeted import Allocator
from baselines.experts import Facts
from baselines.method import Probe
from baselines.sizes import Shapes
from smoe import BudgetError, block_params, block_shapes, find_blocks

SEED = 42  # of the randomised decomposition, PEFT's own for EVA: the measure does not change with the run's seed


@dataclass(frozen=True, kw_only=True)
class EvaExperts(Allocator):
    """An expert for every principal component of a block's inputs that explains enough."""

    name: ClassVar[str] = "eva-experts"
    summary: ClassVar[str] = "EVA's explained variance of block inputs, turned into experts"
    source: ClassVar[str] = "arXiv 2410.07170, PEFT"

    max_experts: int = 8  # of any block, hence components looked at; as many as eight tasks can vote for

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_positive("max_experts")
        if self.mean_experts is not None and self.mean_experts > self.max_experts:
            raise ValueError(f"{self.name}: mean_experts {self.mean_experts} is above max_experts {self.max_experts}")

    def check(self, model: torch.nn.Module, tasks: Sequence[str], total_steps: int) -> None:
        shapes = block_shapes(model, self.target_modules)
        self._hand_out({b: [1.0] * min(self.max_experts, shape[0]) for b, shape in shapes.items()}, shapes)

    def allocate(self, model: torch.nn.Module, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        ratios = explained_variance(model, find_blocks(model, self.target_modules), probe, self.max_experts)
        return self._hand_out(ratios, block_shapes(model, self.target_modules)), {"explained_variance": ratios}

    def _hand_out(self, ratios: Mapping[str, Sequence[float]], shapes: Shapes) -> dict[str, int]:
        """Go down the pooled list, largest first, ties by component and name, until the budget is spent."""
        pool = sorted((-ratio, i, b) for b, own in ratios.items() for i, ratio in enumerate(own))
        given = dict.fromkeys(ratios, 0)
        budget, spent = self.budget, 0
        wanted = budget.total_experts or (budget.mean_experts or 0) * len(ratios)
        whole = round(wanted)
        if abs(wanted - whole) > 1e-6 * len(ratios) or whole > len(pool):
            raise BudgetError(
                f"{self.name}: {wanted:g} experts cannot be dealt to {len(ratios)} blocks with up to "
                f"{self.max_experts} each; nearest possible: {min(whole, len(pool))}"
            )
        for _, _, block in pool:
            if budget.trainable_params is None:
                if sum(given.values()) == whole:
                    return given
            else:
                now, more = (block_params(shapes[block], given[block] + n, self.r) for n in (0, 1))
                spent += more - now
                if spent > budget.trainable_params:
                    return given
            given[block] += 1
        if budget.trainable_params is not None:
            raise BudgetError(
                f"{self.name}: {budget.trainable_params} parameters cannot be spent on {len(ratios)} blocks with up to "
                f"{self.max_experts} experts each; nearest possible: {spent}"
            )
        return given


def explained_variance(
    model: torch.nn.Module, blocks: Mapping[str, torch.nn.Module], probe: Probe, components: int
) -> dict[str, list[float]]:
    """Return the share of the variance of each block's inputs that each leading component explains, falling.

    Padding is left out. The model is put into evaluation mode for the pass and back. Raises ValueError where no batch
    has as many tokens as there are components.
    """
    fits: dict[str, Any] = {}
    owner: dict[str, str] = {}  # block -> the block whose fit it shares
    last: list[Any] = [None, ""]  # the input seen last, and whose it was
    mask = torch.empty(0)

    def listen(block: str) -> Any:
        def hook(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            x = inputs[0]
            if x is not last[0]:
                last[:] = x, block
                tokens = x.detach()[mask].float()
                wanted = min(components, x.shape[-1])
                if len(tokens) < wanted:
                    return  # as PEFT's EVA does
                if block not in fits:
                    small = 2 * wanted > min(tokens.shape)  # PEFT's randomised form draws twice the components
                    fits[block] = IncrementalPCA(n_components=wanted, lowrank=not small, lowrank_seed=SEED)
                fits[block].partial_fit(tokens)
            owner.setdefault(block, last[1])

        return hook

    handles = [module.register_forward_pre_hook(listen(name)) for name, module in blocks.items()]
    training = model.training
    try:
        model.eval()
        with torch.no_grad():
            for batches in probe.values():
                for batch in batches:
                    mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
                    model(input_ids=batch["input_ids"], attention_mask=mask.long())
                    last[:] = None, ""
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    if unfitted := [b for b in blocks if owner.get(b) not in fits]:
        raise ValueError(f"{unfitted[0]}: no batch of the probe has {components} tokens, one for each component")
    return {b: fits[owner[b]].explained_variance_ratio_.tolist() for b in blocks}
