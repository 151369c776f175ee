"""What the device does at most, by itself: products, copies, launches; and what rows that are rounded up save a layer.

The rates are what a step is held against: no version of it can take less than its operations at the rate of the
products and its bytes at the rate of the copy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from peft import get_peft_model
from torch import nn

from benchmarks.models.load import DTYPES
from benchmarks.speed.ratios import Ratio, SideBySide, Subject, Target, ratio
from benchmarks.speed.setting import Setting
from results.table import Table
from smoe import SMoEConfig, layer

EXPERTS = (2, 3, 4, 5, 6, 7)  # whose rows, r = 8 and the router's, are no multiple of 8
TITLE = "What the device does at most"
ROUNDED = {
    e: Target(name=f"layer of {e} experts: time with rows rounded up / as they are", bound=None) for e in EXPERTS
}
LAUNCHES = 1000
DTYPES_OF_PRODUCTS = ("bfloat16", "float32")


def targets(device: str) -> list[Target]:
    """Return the ratios measured on `device`, with their bounds."""
    return list(ROUNDED.values())


def prepare(setting: Setting) -> Subject:
    """Products and copies large enough to keep a device busy, small kernels in a row, and layers of every odd size."""
    torch.manual_seed(0)
    cuda = setting.device == "cuda"
    size, times = (min(4 * setting.width, 8192), 10) if cuda else (setting.width, 1)
    competitors: dict[str, Callable[[], object]] = {}
    for name in DTYPES_OF_PRODUCTS:
        a, b = (torch.randn(size, size, dtype=DTYPES[name], device=setting.device) for _ in range(2))
        competitors[name] = partial(_again, times, partial(torch.mm, a, b))
    source = torch.randn(4 * size * size, device=setting.device)
    competitors["copy"] = partial(_again, times, partial(torch.empty_like(source).copy_, source))
    one = torch.zeros(1, device=setting.device)
    competitors["launch"] = partial(_again, LAUNCHES, partial(one.add_, 1))
    for experts in EXPERTS:
        passes = _passes(setting, experts)
        competitors[f"{experts} rounded"] = partial(passes, (setting.device,))
        competitors[f"{experts} as they are"] = partial(passes, ())
    contest = SideBySide(competitors, setting.device)

    def rows() -> list[Ratio]:
        found = []
        for experts, target in ROUNDED.items():
            kinds = [f"{experts} rounded", f"{experts} as they are"]
            ms = " / ".join(f"{1000 * contest.median(kind):.3g}" for kind in kinds)
            shape = f"{setting.tokens} tokens, width {setting.width}, {setting.dtype}"
            found.append(ratio(target, contest.over(kinds[0], kinds[1]), f"{ms} ms; {shape}"))
        return found

    def tables() -> list[Table]:
        flop = 2 * size**3 * times
        rates = [(f"product of {size} x {size} in {n}", f"{flop / contest.median(n) / 1e12:.4g} TFLOP/s")
                 for n in DTYPES_OF_PRODUCTS]  # fmt: skip
        moved = 2 * source.numel() * source.element_size() * times
        rates.append((f"copy of {moved / 2 / times / 1e6:.0f} MB", f"{moved / contest.median('copy') / 1e12:.4g} TB/s"))
        rates.append(("small kernels in a row", f"{1e6 * contest.median('launch') / LAUNCHES:.3g} us each"))
        return [Table(TITLE, ("what", "rate"), tuple(rates))]

    return Subject(contest, setting.rounds(10), rows, tables)


def _again(times: int, run: Callable[[], object]) -> None:
    for _ in range(times):
        run()


def _passes(setting: Setting, experts: int) -> Callable[[tuple[str, ...]], None]:
    """Return a forward and backward pass of a layer, told on which devices rows are rounded up."""
    dtype = DTYPES[setting.dtype]
    x = torch.randn(setting.tokens, setting.width, dtype=dtype, device=setting.device, requires_grad=True)
    g = torch.randn_like(x, requires_grad=False)
    base = nn.Linear(setting.width, setting.width, bias=False, dtype=dtype, device=setting.device)
    model: Any = nn.ModuleDict({"proj": base})
    config = SMoEConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["proj"], num_experts=experts)
    tuned: Any = get_peft_model(model, config)
    block = tuned.base_model.model["proj"].train()

    def passes(rounded_on: tuple[str, ...]) -> None:
        before = layer.ALIGNED_ON, layer.ALIGNED_FROM
        layer.ALIGNED_ON, layer.ALIGNED_FROM = rounded_on, 0
        try:
            block(x).backward(g)
        finally:
            layer.ALIGNED_ON, layer.ALIGNED_FROM = before
        x.grad = None
        block.zero_grad(set_to_none=True)

    return passes
