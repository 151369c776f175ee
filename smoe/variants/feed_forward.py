"""Experts that are whole feed-forward nets, with one routing decision for all three projections, as in MixLoRA.

    z_e = act(W_g x + s B^g_e A^g_e x) * (W_u x + s B^u_e A^u_e x)
    y   = sum_e w_e (W_d z_e + s B^d_e A^d_e z_e)             w = gates of softmax(R x), R in fp32 on the net's input

The adapters lie in the layers of the three projections as any others, the router in that of the gate projection; what
changes is how the net computes. The base's products are made once: W_g x and W_u x before the experts, and, as W_d is
linear, W_d (sum_e w_e z_e) after them, where the released code makes it once for each expert of a token. The nets of a
token's k experts are made one after the other, each token's columns of A chosen by a mask, so that k (T, M) are alive
and nothing waits for the device. Routers that let a token choose how many have as many turns as there are experts.

Source: arXiv 2404.15159, github TUDB-Labs/MoE-PEFT@40f8cb7. A bias of the down projection is added once.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from smoe.layer import SMoELinear
from smoe.routers.state import Routed

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


def make_mixtures(model: nn.Module, adapter: str) -> None:
    """Let every feed-forward net whose projections have several experts of that adapter compute as a mixture.

    Raises ValueError for a net without all of gate_proj, up_proj, down_proj and act_fn, and for unequal experts.
    """
    for name, net in model.named_modules():
        layers = [getattr(net, projection, None) for projection in PROJECTIONS]
        adapted = [m for m in layers if isinstance(m, SMoELinear) and m.experts.get(adapter, 1) > 1]
        if not adapted:
            continue
        experts = {m.experts[adapter] for m in adapted}
        if len(adapted) < len(PROJECTIONS) or len(experts) > 1 or not hasattr(net, "act_fn"):
            raise ValueError(
                f"{name}: experts that are whole feed-forward nets need {', '.join(PROJECTIONS)} with equally many "
                f"experts and act_fn, found {len(adapted)} projections with {sorted(experts)} experts"
            )
        net.forward = partial(_forward, net)


def undo_mixtures(model: nn.Module) -> None:
    """Let every feed-forward net compute as its class does."""
    for net in model.modules():
        if isinstance(made := net.__dict__.get("forward"), partial) and made.func is _forward:
            del net.__dict__["forward"]


def _forward(net: Any, x: torch.Tensor) -> torch.Tensor:
    """Map x (..., I) to y (..., I)."""
    gate, up, down = (cast(SMoELinear, getattr(net, name)) for name in PROJECTIONS)
    active = [name for name in gate.active_adapters if gate.experts.get(name, 1) > 1]
    if gate.disable_adapters or not active:
        return cast(torch.Tensor, type(net).forward(net, x))
    if len(gate.active_adapters) > 1:
        raise ValueError(
            f"mixtures of feed-forward nets do not add up: activate one of {', '.join(gate.active_adapters)}"
        )
    (adapter,) = active
    experts, config, scale = gate.experts[adapter], gate.configs[adapter], gate.scales[adapter]
    dropped = gate.smoe_dropout[adapter](x)
    columns = experts * config.r
    a = gate.smoe_A[adapter]
    routed = _routed(gate, x, dropped, a[columns:], adapter)
    every = gate.routers[adapter].sparse or gate.routing.change is not None
    slots = experts if every else min(config.top_k or experts, experts)
    weights, chosen = routed.gates.topk(slots, dim=-1)
    weights = weights.to(x.dtype)
    base_gate, base_up = gate.base_layer(x), up.base_layer(x)
    of_gate = scale * F.linear(dropped, a[:columns].to(x.dtype))
    of_up = scale * F.linear(dropped, up.smoe_A[adapter].to(x.dtype))
    b_gate, b_up = gate.smoe_B[adapter].to(x.dtype), up.smoe_B[adapter].to(x.dtype)
    a_down = down.smoe_A[adapter].to(x.dtype)
    mixed: torch.Tensor | None = None
    low: torch.Tensor | None = None
    for slot in range(slots):
        # (..., E r): 1 at the columns of the expert that stands in this place of the token
        mask = F.one_hot(chosen[..., slot], experts).to(x.dtype).repeat_interleave(config.r, dim=-1)
        z = net.act_fn(base_gate + F.linear(of_gate * mask, b_gate)) * (base_up + F.linear(of_up * mask, b_up))
        weight = weights[..., slot, None]
        part, part_low = weight * z, F.linear(down.smoe_dropout[adapter](z), a_down) * (weight * mask)
        mixed, low = (part, part_low) if mixed is None or low is None else (mixed + part, low + part_low)
    assert mixed is not None and low is not None  # there is an expert
    return cast(torch.Tensor, down.base_layer(mixed) + F.linear(scale * low, down.smoe_B[adapter].to(x.dtype)))


def _routed(gate: SMoELinear, x: torch.Tensor, dropped: torch.Tensor, rows: torch.Tensor, adapter: str) -> Routed:
    """Return the decision for the whole net, made in fp32 and noted under the gate projection."""
    wide = torch.promote_types(x.dtype, torch.float32)
    if gate.routers[adapter].rows == "trained":
        logits = F.linear(dropped.to(wide), rows.to(wide))
    elif gate.routers[adapter].rows == "fixed":
        logits = F.linear(dropped.to(wide), gate.smoe_R[adapter].to(wide))
    else:
        logits = dropped.new_zeros(*x.shape[:-1], gate.experts[adapter], dtype=wide)
    decided = gate.routers[adapter].gates(logits, gate.configs[adapter], gate.routing, gate.own(x, adapter))
    routed = Routed(*decided)
    if gate.routing.change is not None:
        routed = routed._replace(gates=gate.routing.change(routed.gates))
    gate.routing.note(gate.block, adapter, routed)
    return routed
