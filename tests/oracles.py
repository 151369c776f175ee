"""Slow and plain transcriptions of the equations, float64 where given float64: what fast code is held to."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def smoe_layer(
    x: torch.Tensor,
    weight: torch.Tensor,
    experts: list[tuple[torch.Tensor, torch.Tensor]],
    router: torch.Tensor | None,
    scaling: float,
    top_k: int | None = None,
    renormalise: bool = True,
) -> torch.Tensor:
    """y_t = W x_t + scaling sum_e g_e(x_t) B_e A_e x_t, token by token and expert by expert. x (T, I) -> (T, O)."""
    rows = []
    for token in x:
        update = torch.zeros(weight.shape[0], dtype=x.dtype)
        gates = [torch.ones((), dtype=x.dtype)]
        if router is not None:
            gates = gates_of_token(router @ token, top_k, renormalise)
        for gate, (a, b) in zip(gates, experts, strict=True):
            update = update + gate * (b @ (a @ token))
        rows.append(weight @ token + scaling * update)
    return torch.stack(rows)


def gates_of_token(logits: torch.Tensor, top_k: int | None, renormalise: bool) -> list[torch.Tensor]:
    """Gate weights of one token: softmax, then all but the k largest are 0, the rest divided by their sum if asked."""
    exps = [torch.exp(z - logits.max()) for z in logits]
    p = [e / sum(exps) for e in exps]
    if top_k is None or top_k >= len(p):
        return p
    kept = sorted(range(len(p)), key=lambda e: p[e].item(), reverse=True)[:top_k]
    total = sum(p[e] for e in kept) if renormalise else 1.0
    return [p[e] / total if e in kept else torch.zeros_like(p[e]) for e in range(len(p))]


def switch_balance(probabilities: torch.Tensor, top_k: int = 1) -> float:
    """E sum_e f_e P_e by counting; probabilities (T, E)."""
    tokens, experts = probabilities.shape
    sent = [0.0] * experts
    for row in probabilities.tolist():
        for e in sorted(range(experts), key=lambda e: row[e], reverse=True)[:top_k]:
            sent[e] += 1 / top_k / tokens
    return experts * sum(f * p for f, p in zip(sent, probabilities.mean(0).tolist(), strict=True))


def sensitivity_of_samples(
    model: nn.Module, blocks: list[str], samples: list[tuple[list[int], list[int]]]
) -> dict[str, list[float]]:
    """||dL_n / dW||_F^2 of every block and sample by autograd: no batch, no padding, no hook, one weight at a time.

    samples: (tokens, labels) with -100 off the answer; L_n is the mean cross-entropy over the answer's tokens.
    """
    weights = {name: model.get_submodule(name).weight for name in blocks}
    found: dict[str, list[float]] = {name: [] for name in blocks}
    for tokens, labels in samples:
        for name, weight in weights.items():
            weight.requires_grad_(True)
            logits = model(input_ids=torch.tensor([tokens])).logits[0]
            answer = [(i, y) for i, y in enumerate(labels) if i > 0 and y != -100]
            losses = [F.cross_entropy(logits[i - 1], torch.tensor(y)) for i, y in answer]
            loss = torch.stack(losses).mean()
            (gradient,) = torch.autograd.grad(loss, weight, allow_unused=True)
            found[name].append(0.0 if gradient is None else float(gradient.double().square().sum()))
            weight.requires_grad_(False)
    return found
