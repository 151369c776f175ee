"""EVA's importance (Paischer et al. 2024, arXiv 2410.07170): explained variance of a block's inputs, no gradients.

Departures: PEFT's EVA passes over the data until components stop turning and hashes inputs to see which blocks share
them / one pass over the calibration samples, blocks in a row that get the very same tensor share it. PEFT looks at
answer tokens alone and advises against it where they are few / all tokens but padding. The incremental decomposition
is PEFT's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from peft.utils.incremental_pca import IncrementalPCA

from baselines.importance import Importance, Measured, Rule, same_for_all
from baselines.sizes import Shapes
from smoe import Probe
from smoe.gradients import model_inputs

SEED = 42  # of the randomised decomposition, PEFT's own for EVA: the measure does not change with the run's seed


class Eva(Importance):
    """The components of all blocks are pooled; each of the largest brings its block a unit."""

    name: ClassVar[str] = "eva"
    summary: ClassVar[str] = "variance of a block's inputs that each principal component explains; no gradients"
    source: ClassVar[str] = "arXiv 2410.07170, PEFT"
    rule: ClassVar[Rule] = "greedy"

    def measure(
        self, model: torch.nn.Module, blocks: Mapping[str, torch.nn.Module], probe: Probe, most: int, seed: int | None
    ) -> Measured:
        return explained(principal_components(model, blocks, probe, most), probe)

    def outline(self, shapes: Shapes, tasks: Sequence[str], most: int) -> Measured:
        components = {block: [1.0] * min(most, shape[0]) for block, shape in shapes.items()}
        return Measured(same_for_all(dict.fromkeys(shapes, 1.0), tasks), components=components)


def explained(fits: Mapping[str, tuple[list[float], torch.Tensor]], probe: Probe) -> Measured:
    """Return the measure from what `principal_components` gave: the explained shares, by component and in all."""
    ratios = {block: of_block for block, (of_block, _) in fits.items()}
    whole = {block: sum(of_block) for block, of_block in ratios.items()}
    return Measured(same_for_all(whole, probe), {"explained_variance": ratios}, ratios)


def principal_components(
    model: torch.nn.Module, blocks: Mapping[str, torch.nn.Module], probe: Probe, components: int
) -> dict[str, tuple[list[float], torch.Tensor]]:
    """Return each block's leading components: explained share of the variance of its inputs, and directions (n, I).

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
                rows = x.detach().reshape(-1, x.shape[-1])  # some models flatten their tokens
                if len(rows) != mask.numel():
                    raise ValueError(f"{block} sees {len(rows)} tokens of {mask.numel()}: which of them is not known")
                tokens = rows[mask.reshape(-1)].float()
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
                    model(**model_inputs(model, batch["input_ids"], mask.long()))
                    last[:] = None, ""
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    if unfitted := [b for b in blocks if owner.get(b) not in fits]:
        raise ValueError(f"{unfitted[0]}: no batch of the probe has {components} tokens, one for each component")
    return {b: (f.explained_variance_ratio_.tolist(), f.components_) for b, f in ((b, fits[owner[b]]) for b in blocks)}
