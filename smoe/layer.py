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
from typing import Any, cast

import torch
import torch.nn.functional as F
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import nn
from transformers.pytorch_utils import Conv1D

from smoe.blocks import block_shape
from smoe.config import SMoEConfig
from smoe.routers.softmax import route


class RouterRecorder:
    """Collects router probabilities of a forward pass while it is active; one for all layers of a model."""

    def __init__(self) -> None:
        self.active = False
        self.external = False  # smoe.diagnostics reads and stops it, after the balance loss has read
        self.seen: dict[tuple[str, str], list[torch.Tensor]] = {}  # (block, adapter) -> probabilities (..., E)

    def start(self) -> None:
        self.active, self.seen = True, {}

    def stop(self) -> None:
        self.active, self.seen = False, {}


class SMoELinear(nn.Module, BaseTunerLayer):
    """y = W x + (alpha / r) sum_e g_e(x) B_e A_e x, with adapters by name as in PEFT.

    smoe_A[adapter]: (E r + E, I), the last E rows the router; (r, I) with one expert; (r + E, I) with a shared A.
    smoe_B[adapter]: (O, E r).
    """

    adapter_layer_names = ("smoe_A", "smoe_B")
    other_param_names = ("smoe_dropout", "experts", "configs")

    def __init__(self, base_layer: nn.Module, block: str, recorder: RouterRecorder) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.block = block
        self.recorder = recorder
        self.in_features, self.out_features = block_shape(self.get_base_layer())
        self.smoe_A = nn.ParameterDict()
        self.smoe_B = nn.ParameterDict()
        self.smoe_dropout = nn.ModuleDict()
        self.experts: dict[str, int] = {}
        self.configs: dict[str, SMoEConfig] = {}
        self._disable_adapters = False
        self.merged_adapters = []

    def update_layer(self, adapter_name: str, experts: int, config: SMoEConfig) -> None:
        """Add or replace the adapter of that name."""
        self.experts[adapter_name] = experts
        self.configs[adapter_name] = config
        dropout = nn.Dropout(config.lora_dropout) if config.lora_dropout > 0 else nn.Identity()
        self.smoe_dropout[adapter_name] = dropout.train(self.training)
        rows = (1 if config.share_A else experts) * config.r
        a = torch.empty(rows + (experts if experts > 1 else 0), self.in_features)
        b = torch.zeros(self.out_features, experts * config.r)
        # The bound depends on the input width alone, so that one call gives every expert and the router its own draw,
        # and one expert the same draw as PEFT's LoRA.
        nn.init.kaiming_uniform_(a, a=math.sqrt(5))
        if config.router_init != "kaiming":
            nn.init.normal_(a[rows:], std=float(config.router_init))
        if not config.init_weights:
            nn.init.kaiming_uniform_(b, a=math.sqrt(5))
        self.smoe_A[adapter_name] = nn.Parameter(a)
        self.smoe_B[adapter_name] = nn.Parameter(b)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

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
        scaling = config.lora_alpha / config.r
        h = F.linear(self.smoe_dropout[adapter](x), self.smoe_A[adapter].to(x.dtype))
        if experts > 1:
            h, logits = torch.split(h, [h.shape[-1] - experts, experts], dim=-1)
            probabilities, gates = route(logits, config.top_k, config.renormalise)
            if self.recorder.active:
                self.recorder.seen.setdefault((self.block, adapter), []).append(probabilities)
            gates = (gates * scaling).to(h.dtype).unsqueeze(-1)
            # (..., E or 1, r) * (..., E, 1): with a shared A the one row of columns is broadcast to all experts.
            h = (h.unflatten(-1, (-1, config.r)) * gates).flatten(-2)  # type: ignore[no-untyped-call]
        else:
            h = h * scaling
        # Cast as x is, not as h is: under autocast both are cast again by the product itself.
        return (y + F.linear(h, self.smoe_B[adapter].to(x.dtype))).to(y.dtype)

    def mergeable(self, adapter: str) -> bool:
        """Tell whether the adapter is a fixed matrix: it has one expert, hence no router deciding per token."""
        return self.experts.get(adapter, 1) == 1

    def get_delta_weight(self, adapter: str) -> torch.Tensor:
        """Return the update (alpha / r) B A, shaped as the base weight. Raises ValueError where a router decides."""
        if not self.mergeable(adapter):
            raise ValueError(f"{self.block} has {self.experts[adapter]} experts: its router decides per token")
        config = self.configs[adapter]
        delta: torch.Tensor = (
            self.smoe_B[adapter].float() @ self.smoe_A[adapter].float() * (config.lora_alpha / config.r)
        )
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
