"""Where the bytes of a training step go: the heaviest step of a default run, by every method, in a process each.

`python -m benchmarks.speed.step.parts METHOD FILE` loads the model and the step, trains, and prints bytes in JSON: the
peak of the process, what it had before the model, and what tensors are for when most of their bytes are alive. The rest
is gaps in the heap, and what kernels use for themselves.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import cache

import torch
from accelerate.utils import set_seed

from benchmarks.jobs.meter import measure, own_peak, release, reset_resident_peak
from benchmarks.models.load import skeleton
from benchmarks.speed.memory import in_processes
from benchmarks.speed.ratios import Ratio, SideBySide, Subject, Target, ratio
from benchmarks.speed.setting import TRAINED, Setting, contestant, whole_steps
from benchmarks.speed.step.ledger import ATTENTION, CASTS, KEPT, LOGITS, PARTS, Ledger
from results.table import Table

BEFORE, GAPS = "before the model", "heap gaps, and kernels' own"
BACKWARD = (ATTENTION, LOGITS, CASTS, KEPT)
SHARE = {n: Target(name=f"bytes of a step of {n}: kept for the backward pass / peak", bound=None) for n in TRAINED}
PLANNED = 30  # steps that methods are told of, enough for AdaLoRA's schedule
STEPS = 3  # the optimiser's state is there from the first on
TITLE = "Where the bytes of a training step go, in MB"


def targets(device: str) -> list[Target]:
    """Return the ratios measured on `device`, with their bounds."""
    return list(SHARE.values())


def prepare(setting: Setting) -> Subject:
    """Nothing takes turns: bytes need no clock."""

    @cache
    def measured() -> dict[str, dict[str, int]]:
        micro_batches, tokens = setting.heaviest_step
        inputs = {"micro_batches": micro_batches, "tokens": tokens, "experts": setting.experts}
        module = "benchmarks.speed.step.parts"
        return {name: accounted(told) for name, told in in_processes(module, setting, inputs, TRAINED).items()}

    def rows() -> list[Ratio]:
        return [
            ratio(
                SHARE[name], [sum(parts[p] for p in BACKWARD) / sum(parts.values())], _detail(parts, shape_of(setting))
            )
            for name, parts in measured().items()
        ]

    return Subject(SideBySide({}, setting.device), 1, rows, lambda: [as_table(measured())])


def accounted(told: Mapping[str, int]) -> dict[str, int]:
    """Return the bytes of every part, whose sum is the peak. told: what a process printed."""
    counted = {part: told[part] for part in PARTS}
    return {BEFORE: told[BEFORE], **counted, GAPS: told["peak"] - told[BEFORE] - sum(counted.values())}


def shape_of(setting: Setting) -> str:
    """Return rows x tokens of the micro-batches of the step that is measured."""
    return ", ".join("{} x {}".format(*batch["input_ids"].shape) for batch in setting.heaviest_step[0])


def as_table(measured: Mapping[str, Mapping[str, int]]) -> Table:
    """Lay out every part of every method."""
    rows = [(part, *(f"{parts[part] / 1e6:.0f}" for parts in measured.values())) for part in (BEFORE, *PARTS, GAPS)]
    total = ("peak of the process", *(f"{sum(parts.values()) / 1e6:.0f}" for parts in measured.values()))
    return Table(TITLE, ("bytes", *measured), (*rows, total))


def _detail(parts: Mapping[str, int], shape: str) -> str:
    backward, total = sum(parts[part] for part in BACKWARD), sum(parts.values())
    return f"{backward / 1e6:.0f} / {total / 1e6:.0f} MB; {shape} tokens"


def account(name: str, file: str) -> dict[str, int]:
    """Measure one method in this process: the peak of whole steps first, then what tensors are for in two more."""
    inputs = torch.load(file, weights_only=True)
    setting = Setting(**{field: inputs[field] for field in ("model", "dtype", "device")})
    step = (inputs["micro_batches"], inputs["tokens"])
    vocabulary = skeleton(setting.model).config.get_text_config().vocab_size  # the architecture's code is loaded by it
    cuda = setting.device == "cuda"
    release()
    reset_resident_peak()
    before = 0 if cuda else own_peak()
    model = setting.load()
    method = contestant(name, inputs["experts"])
    set_seed(0)
    attached = method.attach(model, {}, PLANNED)
    with measure(setting.device) as meter:
        whole_steps(attached, method, [step] * STEPS)
    ledger = Ledger(attached, vocabulary)
    with ledger.listening():
        whole_steps(attached, method, [step] * 2, progress=ledger.end_step)
    assert meter.cost is not None
    highest = meter.cost.peak_allocated_bytes if cuda else meter.cost.peak_resident_bytes
    if highest is None or before is None:
        raise RuntimeError("this platform does not tell how much memory a process had")
    return {"peak": highest, BEFORE: before, **ledger.peak()}


if __name__ == "__main__":
    print(json.dumps(account(*sys.argv[1:])))
