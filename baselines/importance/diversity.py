"""How far tasks lie apart in a layer: one minus the mean cosine of their mean hidden states; one forward pass.

Source: the report "Signal-Guided Expert Allocation for Multi-Task LoRA", of which only the abstract was read. All real
tokens count here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import ClassVar

import torch

from baselines.importance import Importance, Measured, Rule, layers_of, same_for_all, same_in_a_layer
from smoe import Probe


class Diversity(Importance):
    """The same for all blocks of a layer, and for all tasks."""

    name: ClassVar[str] = "diversity"
    summary: ClassVar[str] = "how far the tasks' mean hidden states lie apart in a layer; no gradients"
    source: ClassVar[str] = "after Signal-Guided Expert Allocation for Multi-Task LoRA"
    rule: ClassVar[Rule] = "layers"
    least_tasks: ClassVar[int] = 2

    def measure(
        self, model: torch.nn.Module, blocks: Mapping[str, torch.nn.Module], probe: Probe, most: int, seed: int | None
    ) -> Measured:
        means = [mean_states(model, batches) for batches in probe.values()]  # (layers, H) a task
        pairs = list(combinations(means, 2))
        if not pairs:
            raise ValueError("importance diversity compares tasks, and there is one")
        apart = torch.stack([1 - torch.cosine_similarity(a, b, dim=-1) for a, b in pairs]).mean(0).clamp_min(0)
        layers = layers_of(blocks)
        if len(layers) != len(apart):
            raise ValueError(f"{len(apart)} layers have hidden states and {len(layers)} have blocks: they do not agree")
        scores = same_in_a_layer(dict(zip(layers, apart.tolist(), strict=True)), blocks)
        return Measured(same_for_all(scores, probe), {"importance": {"all": scores}})


@torch.no_grad()
def mean_states(model: torch.nn.Module, batches: Sequence[Mapping[str, torch.Tensor]]) -> torch.Tensor:
    """Return the mean over real tokens of each layer's output, (layers, H) in fp32; in evaluation mode."""
    sums, tokens, training = None, 0, model.training
    model.eval()
    try:
        for batch in batches:
            mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
            output = model(input_ids=batch["input_ids"], attention_mask=mask.long(), output_hidden_states=True)
            states = torch.stack([state[mask].float().sum(0) for state in output.hidden_states[1:]])
            sums, tokens = states if sums is None else sums + states, tokens + int(mask.sum())
    finally:
        model.train(training)
    assert sums is not None  # a task has a batch
    return sums / tokens
