"""What the routers of a model do: load of each expert, dead experts, entropy, per block, with padding left out.

with record_routing(model, pad_token_id=tokenizer.pad_token_id) as report:
    model(**batch)                                # any number of forward passes, generation included
report["model.layers.0.self_attn.q_proj"].load

And what becomes of the answers when they do something else: if shuffled gates lose nothing, the routers of a trained
model carry nothing that depends on the token.

with changed_routing(model, "shuffled", pad_token_ids=(tokenizer.pad_token_id,)):
    model(**batch)                                # evaluation; nothing stays changed
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from smoe.model import SMoEModel, smoe_layers
from smoe.routers.balance import chosen_experts

CHANGES = ("shuffled", "uniform")


@dataclass
class BlockRouting:
    """Sums over the tokens of one block's router; the properties are what one looks at."""

    tokens: int
    gate_sum: list[float]  # per expert
    chosen_sum: list[float]  # per expert: tokens that have it among their top k (soft routing: as their best)
    entropy_sum: float  # nats, of the probabilities before top-k

    @property
    def load(self) -> list[float]:
        """Mean gate of each expert; sums to 1 unless top-k gates are not renormalised."""
        return [value / max(self.tokens, 1) for value in self.gate_sum]

    @property
    def chosen(self) -> list[float]:
        """Share of tokens that have each expert among their top k; under soft routing, as their best."""
        return [value / max(self.tokens, 1) for value in self.chosen_sum]

    @property
    def entropy(self) -> float:
        """Mean entropy of the router over log E: 1 is even, 0 is one expert for each token."""
        return self.entropy_sum / max(self.tokens, 1) / math.log(len(self.gate_sum))

    @property
    def dead(self) -> int:
        """Experts that carry less than a tenth of an even share of the load."""
        total = sum(self.gate_sum)
        return sum(value < 0.1 * total / len(self.gate_sum) for value in self.gate_sum)


@dataclass
class RoutingReport:
    """`BlockRouting` of every routed block of one adapter, filled while `record_routing` is active."""

    blocks: dict[str, BlockRouting] = field(default_factory=dict)

    def __getitem__(self, block: str) -> BlockRouting:
        return self.blocks[block]

    def to_json(self) -> dict[str, dict[str, Any]]:
        return {
            name: {"tokens": b.tokens, "load": b.load, "chosen": b.chosen, "entropy": b.entropy, "dead": b.dead}
            for name, b in self.blocks.items()
        }


@contextmanager
def record_routing(
    model: nn.Module, *, adapter: str = "default", pad_token_id: int | None = None
) -> Iterator[RoutingReport]:
    """Record what the routers do in every forward pass inside the `with`.

    Padding is known from the pass's `attention_mask`; without one, runs of `pad_token_id` at either end of a sequence
    are padding (lm-eval's log-likelihood passes no mask). Raises ValueError for a model without an smoe adapter.
    """
    tuner, pads = tuner_of(model), () if pad_token_id is None else (pad_token_id,)
    layers, report, recorder = smoe_layers(model), RoutingReport(), tuner.routing

    def before(module: nn.Module, args: tuple[Any, ...]) -> None:
        recorder.start()

    def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        mask = token_mask(ids, kwargs.get("attention_mask"), pads)
        for (block, name), seen in recorder.seen.items():
            if name == adapter:
                for routed in seen:
                    _add(report, block, routed[:2], mask, layers[block].configs[adapter])
        recorder.stop()

    handles = [
        tuner.model.register_forward_pre_hook(before),
        tuner.model.register_forward_hook(after, with_kwargs=True),
    ]
    recorder.external = True
    try:
        yield report
    finally:
        for handle in handles:
            handle.remove()
        recorder.external = False
        recorder.stop()


@contextmanager
def changed_routing(
    model: nn.Module, how: str, *, pad_token_ids: Collection[int] = (), seed: int = 0
) -> Iterator[None]:
    """Change the gates of every router inside the `with`.

    "shuffled": each block's gates of a pass are permuted over its real tokens, with a new permutation for every block
    and pass, drawn from `seed`, so that column sums stay; "uniform": 1/E. Padding is known as in `record_routing`.
    Raises ValueError for another word or a model without an smoe adapter.
    """
    if how not in CHANGES:
        raise ValueError(f"change {how!r} is not one of {', '.join(CHANGES)}")
    tuner = tuner_of(model)
    generator = torch.Generator().manual_seed(seed)
    mask: torch.Tensor | None = None

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal mask
        ids = kwargs.get("input_ids", args[0] if args else None)
        mask = token_mask(ids, kwargs.get("attention_mask"), pad_token_ids)

    def shuffled(gates: torch.Tensor) -> torch.Tensor:
        flat = gates.reshape(-1, gates.shape[-1])
        real = torch.arange(len(flat), device=flat.device)
        if mask is not None and mask.numel() == len(flat):
            real = mask.reshape(-1).nonzero().squeeze(1)
        order = torch.randperm(len(real), generator=generator).to(flat.device)
        return flat.index_copy(0, real, flat[real[order]]).view_as(gates)

    def uniform(gates: torch.Tensor) -> torch.Tensor:
        return torch.full_like(gates, 1 / gates.shape[-1])

    handle = tuner.model.register_forward_pre_hook(before, with_kwargs=True)
    tuner.routing.change = shuffled if how == "shuffled" else uniform
    try:
        yield
    finally:
        tuner.routing.change = None
        handle.remove()


def tuner_of(model: nn.Module) -> SMoEModel:
    """Return the tuner inside a model. Raises ValueError where there is none."""
    tuner = next((m for m in model.modules() if isinstance(m, SMoEModel)), None)
    if tuner is None:
        raise ValueError("the model has no smoe adapter")
    return tuner


def token_mask(
    ids: torch.Tensor | None, attention_mask: torch.Tensor | None, pad_token_ids: Collection[int]
) -> torch.Tensor | None:
    """Return True at real tokens, (B, S), or None when all are."""
    if attention_mask is not None and attention_mask.dim() == 2:
        # While generating, the mask also covers the tokens in the cache.
        return attention_mask[:, -ids.shape[1] :].bool() if ids is not None else attention_mask.bool()
    if ids is None or not pad_token_ids:
        return None
    real = torch.ones_like(ids, dtype=torch.bool)
    for pad in pad_token_ids:
        real &= ids != pad
    started = real.long().cumsum(1) > 0
    ends_later = real.flip(1).long().cumsum(1).flip(1) > 0
    return started & ends_later


def _add(
    report: RoutingReport,
    block: str,
    both: tuple[torch.Tensor, torch.Tensor],
    mask: torch.Tensor | None,
    config: Any,
) -> None:
    experts = both[0].shape[-1]
    flat, gates = (t.detach().reshape(-1, experts).float() for t in both)
    if mask is not None and mask.numel() == flat.shape[0]:
        flat, gates = flat[mask.reshape(-1)], gates[mask.reshape(-1)]
    entropy = -torch.xlogy(flat, flat).sum()
    total = report.blocks.setdefault(block, BlockRouting(0, [0.0] * experts, [0.0] * experts, 0.0))
    total.tokens += flat.shape[0]
    total.gate_sum = [a + b for a, b in zip(total.gate_sum, in_double(gates).sum(0).tolist(), strict=True)]
    chosen = in_double(chosen_experts(flat, config.top_k)).sum(0).tolist()
    total.chosen_sum = [a + b for a, b in zip(total.chosen_sum, chosen, strict=True)]
    total.entropy_sum += float(entropy)


def in_double(values: torch.Tensor) -> torch.Tensor:
    """Return the values in float64; on the CPU where they lie on MPS, which has none."""
    return (values.cpu() if values.device.type == "mps" else values).double()
