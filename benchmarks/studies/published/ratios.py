"""LoRA-SMoE over LoRA at a published shape, side by side: a training step, the sensitivity pass, torch.compile."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from benchmarks.models.load import RANDOM, weights
from benchmarks.plan.device import check_compiler
from benchmarks.speed.ratios import Ratio, SideBySide, Target, ratio
from benchmarks.speed.setting import steps
from benchmarks.studies.published.contestants import FIRST, HELD, OWN, Sizes, attached, batch_of, made, probe_of
from smoe import sensitivity

SMOE, LORA = "lora-smoe", "lora"
OPPONENTS = {OWN: "LoRA in the same layer", LORA: "PEFT's LoRA", HELD: "PEFT's LoRA held in the model's dtype"}
COMPARED = (SMOE, *OPPONENTS)
STEP = {
    label: Target(name=f"training step: time of LoRA-SMoE / {name}", bound=1.10 if label == OWN else None)
    for label, name in OPPONENTS.items()
}
MEMORY = {
    label: Target(name=f"training step: peak memory of LoRA-SMoE / {name}", bound=1.05 if label == OWN else None)
    for label, name in OPPONENTS.items()
}
COMPILED = {n: Target(name=f"training step of {n}: torch.compile / without", bound=None) for n in ("lora", "lora-smoe")}
PASS = Target(name=f"sensitivity: time / 100 training steps of {OPPONENTS[OWN]}", bound=1.0)
PASS_MEMORY = Target(name=f"sensitivity: peak memory / training step of {OPPONENTS[OWN]}", bound=1.0)
COMPILED_LAYERS = 4  # tracing alone takes seconds a layer


def ratios(name: str, sizes: Sizes, device: str, entries: Mapping[str, Any]) -> list[Ratio]:
    """LoRA-SMoE's step and sensitivity pass over the steps of three LoRAs; memory from the `entries` of all."""
    size, n = sizes.batches[0], sizes.steps
    probe, batch = probe_of(sizes, device), batch_of(sizes, size)
    base = weights(name, sizes.dtype, device)
    tuned = {
        label: attached(label, made(label, FIRST[label], name), weights(name, sizes.dtype, device), probe, sizes)
        for label in COMPARED
    }
    compete: dict[str, Callable[[], object]] = {"pass": lambda: sensitivity(base, probe)}
    for label, (method, model) in tuned.items():
        for times in (1, 2):
            compete[f"{label} x {times}"] = partial(steps, model, method, [batch] * (times * n))
    contest = SideBySide(compete, device)
    for _ in range(sizes.rounds):
        contest()
    spent = {
        label: [b - a for a, b in zip(*(contest.seconds[f"{label} x {times}"] for times in (1, 2)), strict=True)]
        for label in tuned
    }  # of n steps, a round each

    def over(a: list[float], b: str, scale: float = 1.0) -> list[float]:
        return [scale * x / y for x, y in zip(a, spent[b], strict=True)]

    ms = {label: f"{1000 * sorted(of)[len(of) // 2] / n:.1f} ms" for label, of in spent.items()}
    what = f"{name.removeprefix(RANDOM)}, {size} x {sizes.tokens} tokens, {sizes.dtype}"
    hundred = f"{contest.median('pass'):.2f} s for {sizes.documents} samples of each of {sizes.tasks} tasks"
    rows = [
        *(ratio(STEP[b], over(spent[SMOE], b), f"{ms[SMOE]} / {ms[b]}; {what}") for b in OPPONENTS),
        ratio(PASS, over(contest.seconds["pass"], OWN, n / 100), f"{hundred}; {what}"),
    ]

    def peak(method: str, phase: str, *at: str) -> float:
        cost = entries.get(method, {}).get(phase) or {}
        for key in at:
            cost = cost.get(key) or {}
        return cost.get("peak_allocated_bytes" if device == "cuda" else "peak_resident_bytes") or math.nan

    at = str(size)
    compared = [(MEMORY[label], peak(SMOE, "steps", at), peak(label, "steps", at)) for label in OPPONENTS]
    compared.append((PASS_MEMORY, peak(SMOE, "allocate"), peak(OWN, "steps", at)))
    for target, ours, theirs in compared:
        if math.isfinite(ours / theirs):
            rows.append(ratio(target, [ours / theirs], f"{ours / 1e9:.2f} / {theirs / 1e9:.2f} GB; {what}"))
    return rows


def compiled_ratios(name: str, sizes: Sizes, device: str, entries: Mapping[str, Any]) -> list[Ratio]:
    """Time what torch.compile makes of a step of LoRA and of LoRA-SMoE at a few layers, compilation left out."""
    check_compiler(device)
    cut = name if "layers=" in name else f"{name}:layers={COMPILED_LAYERS}"
    size = sizes.batches[0]
    probe, batch = probe_of(sizes, device), batch_of(sizes, size)
    rows = []
    for label in COMPILED:
        model = weights(cut, sizes.dtype, device)
        method, tuned = attached(label, made(label, FIRST[label], cut), model, probe, sizes)
        step = partial(steps, tuned, method, [batch] * sizes.steps)
        contest = SideBySide({"plain": step, "compiled": partial(step, compiled=True)}, device)
        for _ in range(sizes.rounds):
            contest()
        ms = " / ".join(f"{1000 * contest.median(which) / sizes.steps:.1f} ms" for which in ("compiled", "plain"))
        what = f"{cut.removeprefix(RANDOM)}, {size} x {sizes.tokens} tokens, {sizes.dtype}"
        rows.append(ratio(COMPILED[label], contest.over("compiled", "plain"), f"{ms}; {what}"))
    return rows
