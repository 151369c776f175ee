"""A frozen linear layer with E low-rank experts and a router, computed as two matrix products.

    y = W x + (alpha / r) sum_e g_e(x) B_e A_e x        g = gates of softmax(R x); one expert has no router, g = 1

                          y (O)
                            |
        +-------------------+-------------------+
        |                   |  sum, alpha / r   |
        |               g_1 x               g_E x  <---- gates g (E) of softmax(R x)
    +-------+           +-------+           +-------+              |
    |       |           |  B_1  |  (O, r)   |  B_E  |          +-------+
    |   W   |           +-------+    ...    +-------+          |   R   |  router (E, I)
    | (O,I) |           |  A_1  |  (r, I)   |  A_E  |          +-------+
    +-------+           +-------+           +-------+              |
     frozen                 |                   |                  |
        |                   |                   |                  |
        +-------------------+-------------------+------------------+
                            |
                          x (I)

A is stacked to (E r, I) with the router's E rows under it, B to (O, E r):

    [h | z] = x [A; R]^T        h' = h, each expert's r columns times its gate        y = x W^T + h' B^T

so there is no loop over experts, no gather and no wait for the device, for any E and any top-k. Released mixtures of
LoRA experts loop; the tests hold the layer to such a loop.

Departures from PEFT's LoRA: the products run in the dtype of the input (adapter weights are cast to it), where PEFT
casts the input to the fp32 of the adapter: faster and leaner on a bf16 model, equal on an fp32 one. The router sees
the input after dropout, as the experts do, because it shares their product.
"""

from __future__ import annotations

import math
import zlib
from typing import Any, cast

import torch
import torch.nn.functional as F
from peft.tuners._buffer_dict import BufferDict
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import nn
from transformers.pytorch_utils import Conv1D

from smoe.blocks import block_shape
from smoe.config import SMoEConfig
from smoe.routers import Router, router
from smoe.routers.state import Own, Routed, RoutingState
from smoe.variants.svd_start import block_scale, take_out

ALIGNED_ON: tuple[str, ...] = ("cuda",)  # where tensor cores want operands whose rows begin at multiples of 16 bytes
ALIGNMENT = 16  # bytes
# Numbers of an input from which on that pays. On an H100 a layer's passes took 0.93 to 0.995 of their time over inputs
# of 2^26 numbers, and 1.04 to 1.29 over those of 2^21, where three launches more count (results/records/card).
ALIGNED_FROM = 2**25


class SMoELinear(nn.Module, BaseTunerLayer):
    """y = W x + (alpha / r) sum_e g_e(x) B_e A_e x, with adapters by name as in PEFT.

    smoe_A[adapter]: (E r + E, I), the last E rows a trained router; (r, I) with one expert; (r + E, I) with a shared A.
    smoe_B[adapter]: (O, E r). smoe_R[adapter]: (E, I), a router that is not trained, where there is one.
    smoe_P[adapter]: further numbers of a router, where this block has them; smoe_d[adapter]: (E,) its bias. With
    experts of unequal ranks E r is their sum.
    """

    adapter_layer_names = ("smoe_A", "smoe_B", "smoe_P")
    other_param_names = ("smoe_R", "smoe_d", "smoe_dropout", "experts", "configs", "routers", "ranks", "scales")

    def __init__(self, base_layer: nn.Module, block: str, routing: RoutingState) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.block = block
        self.routing = routing
        self.in_features, self.out_features = block_shape(self.get_base_layer())
        self.smoe_A = nn.ParameterDict()
        self.smoe_B = nn.ParameterDict()
        self.smoe_P = nn.ParameterDict()
        self.smoe_R = BufferDict(persistent=True)
        self.smoe_d = BufferDict(persistent=True)
        self.smoe_dropout = nn.ModuleDict()
        self.experts: dict[str, int] = {}
        self.configs: dict[str, SMoEConfig] = {}
        self.routers: dict[str, Router] = {}  # how each adapter's tokens choose experts
        self.ranks: dict[str, list[int]] = {}  # of its experts, where they differ
        self.scales: dict[str, float | torch.Tensor] = {}  # of the update; (E,) where the experts' ranks differ
        self._disable_adapters = False
        self.merged_adapters = []

    def update_layer(self, adapter_name: str, experts: int, config: SMoEConfig) -> None:
        """Add or replace the adapter of that name."""
        self.experts[adapter_name] = experts
        self.configs[adapter_name] = config
        leaves_routing = config.feed_forward and self.block.endswith((".up_proj", ".down_proj"))  # to the gate
        self.routers[adapter_name] = router("uniform" if leaves_routing else config.router)
        dropout = nn.Dropout(config.lora_dropout) if config.lora_dropout > 0 else nn.Identity()
        self.smoe_dropout[adapter_name] = dropout.train(self.training)
        self.scales[adapter_name] = block_scale(config, self.in_features)
        columns = experts * config.r
        if unequal := config.expert_ranks.get(self.block):
            self.ranks[adapter_name], columns = unequal, sum(unequal)
            self.scales[adapter_name] = config.lora_alpha / torch.tensor(unequal, dtype=torch.float32)
        rows = config.r if config.share_A else columns
        a = torch.empty(rows + (experts if experts > 1 else 0), self.in_features)
        b = torch.zeros(self.out_features, columns)
        # The bound depends on the input width alone, so that one call gives every expert and the router its own draw,
        # and one expert the same draw as PEFT's LoRA.
        nn.init.kaiming_uniform_(a, a=math.sqrt(5))
        if config.router_init != "kaiming":
            nn.init.normal_(a[rows:], std=float(config.router_init))
        if config.init_weights is False:
            nn.init.kaiming_uniform_(b, a=math.sqrt(5))
        elif config.init_weights == "svd":
            take_out(self.get_base_layer(), a, b, experts, config, block_scale(config, self.in_features))
        # The draws are the same whatever the router, so that contestants which differ in it start from one adapter.
        kind = self.routers[adapter_name].rows
        if experts > 1 and kind == "fixed":
            self.smoe_R[adapter_name] = a[rows:].clone()
        a = self._with_own_numbers(adapter_name, a) if experts > 1 else a
        self.smoe_A[adapter_name] = nn.Parameter(a if kind == "trained" else a[:rows].clone())
        self.smoe_B[adapter_name] = nn.Parameter(b)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        if adapter_name in self.smoe_d:  # its steps are too small for half precision
            self.smoe_d[adapter_name] = self.smoe_d[adapter_name].float()
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def _with_own_numbers(self, adapter: str, a: torch.Tensor) -> torch.Tensor:
        """Make what the router has beside its E rows; returns A with its further rows.

        Drawn by a generator of the block's own, so that the experts' draws do not depend on the router.
        """
        chosen, config = self.routers[adapter], self.configs[adapter]
        generator = torch.Generator().manual_seed(torch.initial_seed() ^ zlib.crc32(self.block.encode()))
        if chosen.extra_rows:
            drawn = torch.rand(chosen.extra_rows, self.in_features, generator=generator)
            a = torch.cat([a, ((2 * drawn - 1) / math.sqrt(self.in_features)).to(a)])
        if chosen.biased:
            self.smoe_d[adapter] = a.new_zeros(self.experts[adapter])
        owner = self.routing.owners.get((adapter, self.in_features), self)
        if chosen.numbers or (chosen.shared_numbers(self.in_features, config.router_hidden) and owner is self):
            numbers = chosen.first_numbers(self.in_features, config.router_hidden, generator)
            self.smoe_P[adapter] = nn.Parameter(numbers.to(a))
            if not chosen.numbers:
                self.routing.owners[adapter, self.in_features] = self
        return a

    def own(self, x: torch.Tensor, adapter: str) -> Own:
        """Return what the adapter's router has beside its rows, for an input before dropout."""
        holder = self.smoe_P if adapter in self.smoe_P else None
        if holder is None and (adapter, self.in_features) in self.routing.owners:
            holder = self.routing.owners[adapter, self.in_features].smoe_P
        return Own(
            x,
            adapter,
            None if holder is None else holder[adapter],
            self.smoe_d[adapter] if adapter in self.smoe_d else None,  # noqa: SIM401 - a BufferDict has no get
        )

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Map x (..., I) to y (..., O)."""
        if kwargs.pop("adapter_names", None) is not None:
            raise ValueError("different adapters within one batch (adapter_names) are not supported by smoe")
        if self.disable_adapters and self.merged:
            self.unmerge()
        y: torch.Tensor = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters or self.merged:
            return y
        for adapter in self.active_adapters:
            if adapter in self.smoe_A:
                y = self._add_update(y, x, adapter)
        return y

    def _add_update(self, y: torch.Tensor, x: torch.Tensor, adapter: str) -> torch.Tensor:
        config, experts = self.configs[adapter], self.experts[adapter]
        scaling = self.scales[adapter]
        x_dropped = self.smoe_dropout[adapter](x)
        h = _product(x_dropped, self.smoe_A[adapter])
        if experts > 1:
            h, logits = self._logits(h, x_dropped, adapter)
            routed = Routed(*self.routers[adapter].gates(logits, config, self.routing, self.own(x, adapter)))
            gates = routed.gates
            if self.routing.change is not None:
                gates = self.routing.change(gates)
            self.routing.note(self.block, adapter, routed._replace(gates=gates))
            if isinstance(scaling, torch.Tensor):
                h = h * self._by_column((gates * scaling.to(gates)).to(h.dtype), adapter)
            else:
                gates = (gates * scaling).to(h.dtype).unsqueeze(-1)
                # (..., E or 1, r) * (..., E, 1): with a shared A the one row of columns is broadcast to all experts.
                h = (h.unflatten(-1, (-1, config.r)) * gates).flatten(-2)  # type: ignore[no-untyped-call]
        elif isinstance(scaling, torch.Tensor):
            h = h * float(scaling)
        else:
            h = h * scaling
        # Cast as x is, not as h is: under autocast both are cast again by the product itself.
        return (y + F.linear(h, self.smoe_B[adapter].to(x.dtype))).to(y.dtype)

    def _logits(self, h: torch.Tensor, x: torch.Tensor, adapter: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Part the products of A from the router's logits (..., E); without rows these are 0."""
        experts, kind = self.experts[adapter], self.routers[adapter].rows
        if kind == "trained":
            experts += self.routers[adapter].extra_rows
            h, logits = torch.split(h, [h.shape[-1] - experts, experts], dim=-1)
            return h, logits
        if kind == "fixed":
            return h, F.linear(x, self.smoe_R[adapter].to(x.dtype))
        return h, h.new_zeros(*h.shape[:-1], experts)

    def _by_column(self, gates: torch.Tensor, adapter: str) -> torch.Tensor:
        """Spread gates (..., E) over the columns of experts of unequal ranks, (..., sum of ranks)."""
        ranks = torch.tensor(self.ranks[adapter], device=gates.device)
        return gates.repeat_interleave(ranks, dim=-1, output_size=sum(self.ranks[adapter]))

    def mergeable(self, adapter: str) -> bool:
        """Tell whether the adapter is a fixed matrix: one expert, or gates that are the same for every token."""
        return self.experts.get(adapter, 1) == 1 or self.routers[adapter].constant

    def get_delta_weight(self, adapter: str) -> torch.Tensor:
        """Return the update (alpha / r) B A, shaped as the base weight. Raises ValueError where a router decides."""
        if not self.mergeable(adapter):
            raise ValueError(f"{self.block} has {self.experts[adapter]} experts: its router decides per token")
        config, experts = self.configs[adapter], self.experts[adapter]
        a, b = self.smoe_A[adapter].float(), self.smoe_B[adapter].float()
        if config.share_A:
            b = b.unflatten(1, (experts, config.r)).sum(1)
        scale = self.scales[adapter]
        if isinstance(scale, torch.Tensor):
            b, scale = b * self._by_column(scale.to(b), adapter), 1.0
        delta: torch.Tensor = b @ a * (scale / experts)
        return delta.T if isinstance(self.get_base_layer(), Conv1D) else delta

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the update of one-expert adapters to the base weight. Raises ValueError as `get_delta_weight`."""
        for adapter in check_adapters_to_merge(self, adapter_names):
            if adapter not in self.smoe_A:
                continue
            weight = self._float_weight()
            merged = (weight.float() + self.get_delta_weight(adapter)).to(weight.dtype)
            if safe_merge and not torch.isfinite(merged).all():
                raise ValueError(f"{self.block}: adapter {adapter!r} is broken, merging it gives NaN or infinity")
            weight.copy_(merged)
            self.merged_adapters.append(adapter)

    def unmerge(self) -> None:
        """Take merged updates out of the base weight again."""
        weight = self._float_weight()
        while self.merged_adapters:
            weight.sub_(self.get_delta_weight(self.merged_adapters.pop()).to(weight.dtype))

    def _float_weight(self) -> torch.Tensor:
        weight = cast(torch.Tensor, self.get_base_layer().weight).data
        if not weight.is_floating_point():
            raise ValueError(f"{self.block} is quantised ({weight.dtype}): merging needs floating point weights")
        return weight

    def extra_repr(self) -> str:
        return f"experts={self.experts}"


def _product(x: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """Return x A^T in the dtype of x, with spare rows of zeros under A where the device wants a round number of them.

    E experts and their router have E r + E rows, 27 for three experts of r 8, and both products of the backward pass
    read what these rows made of x as an operand.
    """
    a = a.to(x.dtype)
    spare = -a.shape[0] % (ALIGNMENT // x.element_size())
    if spare == 0 or x.device.type not in ALIGNED_ON or x.numel() < ALIGNED_FROM:
        return F.linear(x, a)
    return F.linear(x, F.pad(a, (0, 0, 0, spare)))[..., : a.shape[0]]
