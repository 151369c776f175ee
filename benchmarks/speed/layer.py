"""One layer, forward and backward, against PEFT's LoRA and against the loop over experts of released mixtures.

Dropout is 0, as in the default run: with it all competitors spend the same time more and the ratios are nearer to 1.
PEFT keeps adapters in fp32 and casts the input to it; LoRA held in bf16 is measured too, for information.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from benchmarks.models.load import DTYPES
from benchmarks.speed.ratios import Ratio, SideBySide, Subject, Target, ratio
from benchmarks.speed.rivals import LoopOverExperts
from benchmarks.speed.setting import Setting
from smoe import SMoEConfig

EXPERTS, R, ALPHA = 8, 8, 16


def targets(device: str) -> list[Target]:
    """Return the ratios measured on `device`, with their bounds."""
    return [
        Target(name="layer: time of SMoE / PEFT LoRA r=8", bound=1.15),
        Target(name="layer: time of loop over experts / SMoE", bound=3 if device == "cuda" else 1.5, at_most=False),
        Target(name="layer: time of SMoE / LoRA held in the model's dtype", bound=None),
    ]


def prepare(setting: Setting) -> Subject:
    """Four layers of the same shape and one input that asks for its gradient, as inside a model."""
    torch.manual_seed(0)
    dtype = DTYPES[setting.dtype]
    x = torch.randn(setting.tokens, setting.width, dtype=dtype, device=setting.device, requires_grad=True)
    g = torch.randn(setting.tokens, setting.width, dtype=dtype, device=setting.device)

    def base() -> nn.Linear:
        return nn.Linear(setting.width, setting.width, bias=False, dtype=dtype, device=setting.device)

    def tuned(config: Any, autocast: bool = True) -> nn.Module:
        model: Any = nn.ModuleDict({"proj": base()})
        return get_peft_model(model, config, autocast_adapter_dtype=autocast).base_model.model["proj"]

    def passes(layer: nn.Module) -> Callable[[], None]:
        def forward_and_backward() -> None:
            layer(x).backward(g)
            x.grad = None
            layer.zero_grad(set_to_none=True)

        return forward_and_backward

    lora = LoraConfig(r=R, lora_alpha=ALPHA, target_modules=["proj"])
    experts = SMoEConfig(r=R, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=["proj"], num_experts=EXPERTS)
    loop = LoopOverExperts(base().requires_grad_(False), EXPERTS, r=R, alpha=ALPHA, dropout=0.0)
    layers = {
        "smoe": tuned(experts),
        "lora": tuned(lora),
        "lora-cast": tuned(lora, autocast=False),
        "loop": loop.to(setting.device),
    }
    contest = SideBySide({name: passes(layer.train()) for name, layer in layers.items()}, setting.device)

    def rows() -> list[Ratio]:
        against_lora, against_loop, against_cast = targets(setting.device)
        ms = {name: f"{1000 * contest.median(name):.1f} ms" for name in layers}
        shape = f"{setting.tokens} tokens, width {setting.width}, {setting.dtype}, E={EXPERTS}"
        return [
            ratio(against_lora, contest.over("smoe", "lora"), f"{ms['smoe']} / {ms['lora']}; {shape}"),
            ratio(against_loop, contest.over("loop", "smoe"), f"{ms['loop']} / {ms['smoe']}"),
            ratio(against_cast, contest.over("smoe", "lora-cast"), f"{ms['smoe']} / {ms['lora-cast']}"),
        ]

    return Subject(contest, setting.rounds(40), rows)
