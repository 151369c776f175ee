"""Who is measured at published shapes, at which sizes and on which batches."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from baselines.method import Method
from baselines.methods.lora_smoe import LoraSMoE
from baselines.methods.molora import MoLora
from benchmarks import registry
from benchmarks.data import batches
from benchmarks.data.examples import Example
from benchmarks.models.load import DTYPES, skeleton
from benchmarks.plan import match
from benchmarks.plan.parse import parse_methods
from benchmarks.plan.request import Request
from benchmarks.speed.setting import Allocated
from smoe import block_params

HELD = "lora in the model's dtype"
OWN = "lora-own"
FIRST = {OWN: OWN, "lora-smoe": "lora-smoe", "lora": "lora", HELD: "lora", "molora": "molora",
         "lora of rank 32": "lora:r=32", "adalora": "adalora"}  # fmt: skip
LAST = ("eva-experts", "eva-lora", "alphalora")  # decompose every weight or input: minutes at 7B
SETTINGS = {"pissa": "pissa:niter=16"}  # the exact decomposition of 7B takes longer than everything else here
EXPERTS = {0: 42, 1: 26, 2: 18, 3: 17, 4: 12, 5: 12, 6: 12, 7: 21, 8: 50}  # blocks of SmolLM2-135M with so many
PLANNED = 30  # steps that methods are told of, so that AdaLoRA prunes in those measured


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is measured. The first model, at the last batch size, is where the ratios are taken."""

    models: tuple[str, ...] = ("random:Qwen2.5-3B", "random:Llama-3.1-8B")
    dtype: str = "bfloat16"
    tokens: int = Request.max_length  # of every sample
    batches: tuple[int, ...] = (16, 4)  # at 4 launches are measured more than work
    tasks: int = 8
    documents: int = Request.probe_documents  # a task
    steps: int = 5  # n, where a step is what 2 n take beyond n
    rounds: int = 6  # of the ratios


REHEARSAL = Sizes(
    models=("random:llama:width=64:layers=2",), dtype="float32", tokens=16, batches=(2, 1), steps=2, rounds=1
)


def contestants(every: bool = False) -> dict[str, str]:
    """Return {label: the method as `--methods` reads it}, those first that matter most."""
    if not every:
        return FIRST
    others = sorted(
        (LAST.index(name) + 1 if name in LAST else 0, name)
        for name, cls in registry.methods().items()
        if cls.trains and not cls.trains_base and not issubclass(cls, LoraSMoE) and name not in FIRST
    )
    return {**FIRST, **{name: SETTINGS.get(name, name) for _, name in others}}


def made(label: str, text: str, name: str) -> Method:
    """Return the method of the size of the others; one that names its rank has it."""
    (method,) = parse_methods(text)
    return method if ":r=" in text else match.sized([method], "params", match.shapes_of(skeleton(name)))[0]


def attached(label: str, method: Method, model: Any, probe: Mapping[str, Any], sizes: Sizes) -> tuple[Method, Any]:
    """Attach the method to the model: as its label says in the model's dtype, LoRA-SMoE with `dealt` experts."""
    if isinstance(method, LoraSMoE):
        method.allocate(model, probe)
        method = Allocated(experts=dealt(match.shapes_of(model)))
    tuned = method.attach(model, probe, PLANNED)
    if label == HELD:
        tuned.to(DTYPES[sizes.dtype])
    return method, tuned


def dealt(shapes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Deal the real model's numbers of experts to blocks (in, out) at random, as near as can be to MoLoRA's size."""
    real = [n for n, blocks in EXPERTS.items() for _ in range(blocks)]
    numbers = [real[int((i + 0.5) * len(real) / len(shapes))] for i in range(len(shapes))]
    wanted = match.target("params", shapes)

    def apart(placed: Mapping[str, int]) -> int:
        return abs(sum(block_params(shapes[b], n, MoLora.r) for b, n in placed.items()) - wanted)

    draws = (random.Random(seed).sample(numbers, len(numbers)) for seed in range(100))
    return min((dict(zip(shapes, drawn, strict=True)) for drawn in draws), key=apart)


def _example(rng: random.Random, sizes: Sizes) -> Example:
    return Example("", tuple(rng.choices(range(256), k=sizes.tokens)), 4, False)


def batch_of(sizes: Sizes, size: int) -> tuple[batches.Batch, int]:
    """Draw a batch of so many samples of one length, and count its tokens."""
    rng = random.Random(size)
    batch = batches.collate([_example(rng, sizes) for _ in range(size)], 0)
    # Without padding neither is asked for, and attention is plainly causal: what a kernel without a mask computes.
    return {k: v for k, v in batch.items() if k not in ("attention_mask", "position_ids")}, size * sizes.tokens


def probe_of(sizes: Sizes, device: str) -> dict[str, list[batches.Batch]]:
    """Draw the calibration samples of every task, as batches on the device."""
    rng = random.Random(0)
    drawn = {f"task{t}": [_example(rng, sizes) for _ in range(sizes.documents)] for t in range(sizes.tasks)}
    samples = batches.probe(drawn, sizes.documents, sizes.batches[0], 0)
    return {
        task: [{k: v.to(device) for k, v in batch.items()} for batch in task_batches]
        for task, task_batches in samples.items()
    }
