"""Two LoRA adapters trained apart become the experts of one mixture, and only its router is trained.

python examples/route_between_adapters.py --model tiny        # a small random model, no download

The adapters' matrices are stacked as the mixture has its experts' (smoe/layer.py), and stay as they are. A router that
is certain of one expert is that adapter.
"""

from __future__ import annotations

import argparse
import copy

import torch
from finetune_with_trainer import SPELLING, SUMS, load
from merge_adapters import CONFIG, losses, rows, train, trained_apart
from peft import get_peft_model

from smoe import SMoEConfig, smoe_layers


def mixture_of(base, adapted, names):
    """Return the base with a mixture whose experts are the adapters of those names; all but its routers is frozen."""
    config = SMoEConfig(
        r=CONFIG.r, lora_alpha=CONFIG.lora_alpha, lora_dropout=0.0, num_experts=len(names),
        target_modules=CONFIG.target_modules,
    )  # fmt: skip
    model = get_peft_model(base, config)
    trained = dict(adapted.base_model.model.named_modules())
    for block, layer in smoe_layers(model).items():
        lora, a, b = trained[block], layer.smoe_A["default"], layer.smoe_B["default"]
        experts = torch.cat([lora.lora_A[name].weight for name in names])
        with torch.no_grad():
            a[: len(experts)] = experts
            b.copy_(torch.cat([lora.lora_B[name].weight for name in names], dim=1))
        b.requires_grad_(False)
        # The router's rows stand below the experts' in one tensor: those alone get a gradient.
        below = (torch.arange(len(a)) >= len(experts))[:, None].to(a)
        a.register_hook(below.mul)
    return model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    base, encode = load(options.model)
    tasks = {"sums": rows(encode, SUMS), "spelling": rows(encode, SPELLING)}
    adapted = trained_apart(copy.deepcopy(base), tasks, options.steps)
    for name in tasks:
        adapted.set_adapter(name)
        print(f"{name + ' alone':16}", {n: round(loss, 3) for n, loss in losses(adapted, tasks).items()})
    model = mixture_of(base, adapted, list(tasks))
    print(f"{'even gates':16}", {n: round(loss, 3) for n, loss in losses(model, tasks).items()})
    for _ in range(options.steps):
        for data in tasks.values():
            train(model, data, 1)
    print(f"{'trained router':16}", {n: round(loss, 3) for n, loss in losses(model, tasks).items()})


if __name__ == "__main__":
    main()
