"""LD-MoLE's router: a projection onto the simplex whose sparsity depends on the token.

    u = R x        lambda(x) = 1 - 1e-2 + logsigmoid(w2 relu(W1 x + b1) + b2)
    p = relu(u - tau) / (1 - lambda), with tau such that p sums to 1

    k* = max{k: 1 - lambda + k u_(k) > sum_{j <= k} u_(j)}        tau = (sum_{j <= k*} u_(j) - 1 + lambda) / k*

lambda 0 is sparsemax, towards 1 one expert, towards -infinity all alike. The small network is one for all blocks of one
input width, and its lambda is computed once for all blocks that have an input in common (q, k, v; gate, up): run for
every block it would cost as much as a fifth of the base model. Source: github eshentw/LD-MoLE (ICLR 2026).

Departures: there lambda sees the input after dropout, which every block draws anew / here the input before it, that
blocks have in common; the losses on sparsity and on the logits' size, whose coefficients are 0 in the released script,
are left out.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F

from smoe.routers import Router, RouterSettings
from smoe.routers.state import Own, Routed, RoutingState

ROOM = 1e-2  # 1 - lambda at the least
BIAS = -2.5  # of both layers at the start


def sparsegen(logits: torch.Tensor, sparsity: torch.Tensor) -> torch.Tensor:
    """Project logits (..., E) onto the simplex under a sparsity lambda (..., 1) below 1, in their own dtype."""
    falling = logits.sort(dim=-1, descending=True).values
    sums = falling.cumsum(-1)
    k = torch.arange(1, logits.shape[-1] + 1, dtype=logits.dtype, device=logits.device)
    room = 1 - sparsity
    support = (room + k * falling > sums).sum(-1, keepdim=True)  # the condition holds up to k* and not beyond
    tau = (sums.gather(-1, support - 1) - room) / support
    return (logits - tau).relu() / room


class Sparsegen(Router):
    """p = sparsegen(R x, lambda(x)), which are the gates as well."""

    name: ClassVar[str] = "sparsegen"
    summary: ClassVar[str] = "learned: projection onto the simplex with a learned sparsity of the token"
    source: ClassVar[str] = "LD-MoLE, arXiv 2509.25684"
    rows: ClassVar[Literal["trained", "fixed", "none"]] = "trained"
    sparse: ClassVar[bool] = True
    shares: ClassVar[bool] = True

    def shared_numbers(self, inputs: int, hidden: int) -> int:
        return hidden * (inputs + 2) + 1

    def first_numbers(self, inputs: int, hidden: int, generator: torch.Generator) -> torch.Tensor:
        first = (2 * torch.rand(hidden * inputs, generator=generator) - 1) / inputs**0.5
        second = (2 * torch.rand(hidden, generator=generator) - 1) / hidden**0.5
        return torch.cat([first, torch.full((hidden,), BIAS), second, torch.full((1,), BIAS)])

    def gates(self, logits: torch.Tensor, config: RouterSettings, state: RoutingState, own: Own) -> Routed:
        numbers = own.numbers
        assert numbers is not None  # a layer gives a router what it asks for
        sparsity = state.once(own.x, own.adapter, lambda: sparsity_of(own.x, numbers, config.router_hidden))
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        gates = sparsegen(wide, sparsity.to(wide.dtype))
        return Routed(gates, gates)


def sparsity_of(x: torch.Tensor, numbers: torch.Tensor, hidden: int) -> torch.Tensor:
    """Return lambda (..., 1) of inputs (..., I), at most 0.99, in fp32 or wider."""
    inputs = x.shape[-1]
    first, bias, second, last = torch.split(numbers.to(x.dtype), [hidden * inputs, hidden, hidden, 1])
    out = F.linear(F.linear(x, first.view(hidden, inputs), bias).relu(), second.view(1, hidden), last)
    return 1 - ROOM + F.logsigmoid(out.to(torch.promote_types(x.dtype, torch.float32)))
