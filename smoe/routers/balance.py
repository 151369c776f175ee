"""Which experts a router chose, and the loss of Switch Transformers that asks it to choose them evenly."""

from __future__ import annotations

import torch
import torch.nn.functional as F


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
    weight = _token_weight(probabilities, mask)
    sent = (chosen_experts(probabilities, top_k) * weight).sum(0) / min(top_k or 1, experts)
    return experts * (sent * (probabilities * weight).sum(0)).sum()


def chosen_experts(probabilities: torch.Tensor, top_k: int | None) -> torch.Tensor:
    """Return a 0/1 matrix (T, E) of each token's top k experts; of its best one under soft routing."""
    experts = probabilities.shape[-1]
    index = probabilities.detach().topk(min(top_k or 1, experts), dim=-1).indices
    return F.one_hot(index, experts).sum(-2).to(probabilities.dtype)


def _token_weight(probabilities: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """(T, 1) weights that sum to 1 over the tokens that count."""
    if mask is None or mask.numel() != probabilities.shape[0]:
        # Inside a mixture of experts a block sees a selection of tokens, which no mask of the batch describes.
        return torch.full_like(probabilities[:, :1], 1.0 / max(probabilities.shape[0], 1))
    weight = mask.reshape(-1, 1).to(probabilities)
    return weight / weight.sum().clamp_min(1)
