"""EVA's importance (Paischer et al. 2024, arXiv 2410.07170): explained variance of a block's inputs, no gradients.

Departures: PEFT's EVA passes over the data until components stop turning and hashes inputs to see which blocks share
them / one pass over the calibration samples, blocks in a row that get the very same tensor share it. PEFT looks at
answer tokens alone and advises against it where they are few / all tokens but padding. The incremental decomposition
is PEFT's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from peft.utils.incremental_pca import IncrementalPCA

from smoe import Probe

SEED = 42  # of the randomised decomposition, PEFT's own for EVA: the measure does not change with the run's seed


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
