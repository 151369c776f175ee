"""Which experts a router chose, and the losses that ask it to choose them evenly."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from smoe.routers.state import Routed

# Over the routers of a model, see `reduced`. Coefficients mean nothing across them: of 210 blocks, a sum at 1e-3 is a
# mean at 0.21, and at 0.42 where the shares sum to two.
REDUCTIONS = {
    "mean": "mean over routers, shares sum to 1",
    "sum": "sum over routers, shares sum to k",
    "pool": "the tokens of all routers together, shares sum to k",
}


def balance_loss(
    probabilities: torch.Tensor, top_k: int | None = None, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Measure how unevenly one router sends its tokens: E sum_e f_e P_e, which is 1 when even and E at worst.

    f_e: share of tokens sent to expert e (the top k count 1/k each; with soft routing the largest gate), no gradient.
    P_e: mean probability of e. probabilities (T, E); mask (T,) is true at the tokens that count.
    Source: Switch Transformers (arXiv 2101.03961), equations 4 to 6.
    """
    experts = probabilities.shape[-1]
    probabilities = probabilities.reshape(-1, experts)
    weight = token_weight(probabilities, mask)
    sent = (chosen_experts(probabilities, top_k) * weight).sum(0) / min(top_k or 1, experts)
    return experts * (sent * (probabilities * weight).sum(0)).sum()


def active_share(probabilities: torch.Tensor, gates: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """As `balance_loss` with f_e the share of expert e among all (token, expert) pairs whose gate is not 0."""
    experts = probabilities.shape[-1]
    probabilities = probabilities.reshape(-1, experts)
    weight = token_weight(probabilities, mask)
    active = ((gates.detach().reshape(-1, experts) > 0) * weight).sum(0)
    return experts * (active / active.sum() * (probabilities * weight).sum(0)).sum()


def chosen_experts(probabilities: torch.Tensor, top_k: int | None) -> torch.Tensor:
    """Return a 0/1 matrix (T, E) of each token's top k experts; of its best one under soft routing."""
    experts = probabilities.shape[-1]
    index = probabilities.detach().topk(min(top_k or 1, experts), dim=-1).indices
    return F.one_hot(index, experts).sum(-2).to(probabilities.dtype)


def reduced(
    one: Callable[[Routed, torch.Tensor | None], torch.Tensor],
    passes: Sequence[Routed],
    reduction: str,
    top_k: int | None,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """Put the balance losses of a model's routers together.

    one: loss of one router under a mask. mean: over routers, as it stands. sum: over routers, the shares f summing to
    k and not to 1, as the sources of AdaMoLE and GOAT have it. pool: one loss over the tokens of all routers together,
    f summing to k, as MixLoRA has it: routers may then be uneven where others make up for it.
    """
    if reduction == "mean":
        return torch.stack([one(routed, mask) for routed in passes]).mean()
    slots = min(top_k or 1, passes[0].gates.shape[-1])
    if reduction == "sum":
        return slots * torch.stack([one(routed, mask) for routed in passes]).sum()
    gates = torch.cat([routed.gates.flatten(0, -2) for routed in passes])
    probabilities = torch.cat([routed.probabilities.flatten(0, -2) for routed in passes])
    margins = [routed.margins.flatten(0, -2) for routed in passes if routed.margins is not None]
    together = Routed(probabilities, gates, torch.cat(margins) if margins else None)
    tokens = passes[0].gates[..., 0].numel()
    fits = mask is not None and mask.numel() == tokens and len(together.gates) == tokens * len(passes)
    return slots * one(together, mask.reshape(-1).repeat(len(passes)) if fits and mask is not None else None)


def token_weight(probabilities: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """(T, 1) weights that sum to 1 over the tokens that count."""
    if mask is None or mask.numel() != probabilities.shape[0]:
        # Inside a mixture of experts a block sees a selection of tokens, which no mask of the batch describes.
        return torch.full_like(probabilities[:, :1], 1.0 / max(probabilities.shape[0], 1))
    weight = mask.reshape(-1, 1).to(probabilities)
    return weight / weight.sum().clamp_min(1)
