"""What every adapter method costs at the shapes of published models, weights random: allocation and a training step.

`... --out FILE` writes FILE after every method and goes on where it stopped. Methods are
matched in trainable parameters; ablations of LoRA-SMoE and its controls are left out, since they have its layer and
its sensitivity pass. Samples are as long as the longest of a run (`max_length`), and the probe is the default one, in
batches of the size that the ratios are measured at. For the ratios LoRA-SMoE and LoRA take turns. All of it is one
process, where `benchmarks.studies.cost` has one for each job: a GPU node is there for minutes.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from accelerate.utils import set_seed
from rich.console import Console
from transformers.utils import logging

from baselines.method import Method
from baselines.methods.lora_smoe import LoraSMoE
from benchmarks import registry
from benchmarks.data import batches
from benchmarks.data.examples import Example
from benchmarks.jobs.meter import measure
from benchmarks.models.load import RANDOM, skeleton
from benchmarks.models.load import count as count_parameters
from benchmarks.models.load import load as load_model
from benchmarks.plan import match
from benchmarks.plan.device import check_compiler
from benchmarks.plan.parse import parse_methods
from benchmarks.plan.request import Request
from benchmarks.speed.ratios import Ratio, SideBySide, Target, ratio, table
from benchmarks.speed.setting import steps
from results.environment import environment
from results.files import write_whole
from smoe import sensitivity

STEP = Target(name="training step: time of LoRA-SMoE / LoRA", bound=1.10)
MEMORY = Target(name="training step: peak memory of LoRA-SMoE / LoRA", bound=1.05)
COMPILED = {n: Target(name=f"training step of {n}: torch.compile / without", bound=None) for n in ("lora", "lora-smoe")}
PASS = Target(name="sensitivity: time / 100 training steps of LoRA", bound=1.0)
PASS_MEMORY = Target(name="sensitivity: peak memory / LoRA training step", bound=1.0)

FIRST = ("lora", "lora-smoe", "molora", "adalora")
LAST = ("eva-experts", "eva-lora", "alphalora")  # decompose every weight or input: minutes at 7B
SETTINGS = {"pissa": "pissa:niter=16"}  # the exact decomposition of 7B takes longer than everything else here
PLANNED = 30  # steps that methods are told of, so that AdaLoRA prunes in those measured
WARM = 2
TRIES = 2  # of a method that ended the process
FAILURES = (RuntimeError, ValueError)  # out of memory and whatever else CUDA says; a size that cannot be matched


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is measured. The first model, at the first but one batch size, is where the ratios are taken."""

    models: tuple[str, ...] = ("random:Qwen2.5-3B", "random:Llama-3.1-8B", "random:Llama-2-7B")
    dtype: str = "bfloat16"
    tokens: int = Request.max_length  # of every sample
    batches: tuple[int, ...] = (1, 4, 16)
    tasks: int = 8
    documents: int = Request.probe_documents  # a task
    steps: int = 10  # measured
    rounds: int = 8  # of the ratios


REHEARSAL = Sizes(
    models=("random:llama:width=64:layers=2",), dtype="float32", tokens=16, batches=(1, 2), steps=2, rounds=1
)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="JSON file of every figure.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cuda",
    rehearse: Annotated[bool, typer.Option("--rehearse", help="A toy model on the CPU: nothing is measured.")] = False,
) -> None:
    """Measure what is not in the file yet."""
    logging.disable_progress_bar()
    sizes, device = (REHEARSAL, "cpu") if rehearse else (Sizes(), device)
    body = _begun(out, sizes, device)
    for name in sizes.models:
        for method in parse_methods(",".join(SETTINGS.get(m, m) for m in methods())):
            before = next((e for e in body["entries"] if (e["model"], e["method"]) == (name, method.name)), None)
            if before is not None and ("steps" in before or before["tries"] >= TRIES):
                continue
            typer.echo(f"{name} {method.name} ...", err=True)
            others = [e for e in body["entries"] if e is not before]
            started = {"model": name, "method": method.name, "tries": before["tries"] + 1 if before else 1}
            body["entries"] = [*others, {**started, "error": "the process ended"}]
            _write(out, body)  # so that a method that takes the process with it is not tried for ever
            body["entries"] = [*others, {**started, **measured(name, method, sizes, device)}]
            _write(out, body)
        if name == sizes.models[0]:
            entries = {e["method"]: e for e in body["entries"] if e["model"] == name}
            parts: list[tuple[str, Callable[..., list[Ratio]]]]
            parts = [("ratios", partial(ratios, entries)), ("compiled", compiled_ratios)]
            for part, measure_part in parts:
                if body[part]:
                    continue
                typer.echo(f"{name} {part} ...", err=True)
                try:
                    rows = measure_part(name, sizes, device)
                except FAILURES as error:
                    typer.echo(_told(error), err=True)
                    continue
                body[part] = [row.to_json() for row in rows]
                _write(out, body)
                Console(width=160).print(table(rows))


def methods() -> list[str]:
    """Return the adapter methods by name, those first that matter most."""
    order = {
        name: (LAST.index(name) + 1 if name in LAST else 0, FIRST.index(name) if name in FIRST else len(FIRST), name)
        for name, cls in registry.methods().items()
        if cls.trains and not cls.trains_base and (cls is LoraSMoE or not issubclass(cls, LoraSMoE))
    }
    return sorted(order, key=lambda name: order[name])


def measured(name: str, method: Method, sizes: Sizes, device: str) -> dict[str, Any]:
    """Cost of the allocation, and of a training step at every batch size; an "error" in place of what failed."""
    costs: dict[str, Any] = {"allocate": None, "trainable_params": None, "steps": {}, "error": None}
    try:
        (method,) = match.sized([method], "params", match.shapes_of(skeleton(name)))
        model = load_model(name, sizes.dtype, device)[0]
        probe = _probe(sizes, device)
        set_seed(0)
        with measure(device) as meter:
            attached = method.attach(model, probe, PLANNED)
        costs["allocate"] = asdict(meter.cost)  # type: ignore[arg-type]  # set when the block ends
        costs["trainable_params"] = count_parameters(attached, trainable=True)
    except FAILURES as error:
        costs["error"] = _told(error)
        return costs
    for size in sizes.batches:
        try:
            costs["steps"][str(size)] = _step(attached, method, _batch(sizes, size), sizes.steps, device)
        except FAILURES as error:
            costs["steps"][str(size)] = {"error": _told(error)}
    return costs


def _step(model: Any, method: Method, batch: tuple[batches.Batch, int], count: int, device: str) -> dict[str, Any]:
    """Cost of one step: the seconds of `count` of them, after a warm-up, over their number."""
    steps(model, method, [batch] * WARM)
    with measure(device) as meter:
        steps(model, method, [batch] * count)
    assert meter.cost is not None
    return {**asdict(meter.cost), "wall_seconds": meter.cost.wall_seconds / count, "tokens": batch[1]}


def ratios(entries: dict[str, Any], name: str, sizes: Sizes, device: str) -> list[Ratio]:
    """LoRA-SMoE's step and sensitivity pass over LoRA's step; memory from the `entries` of the two."""
    size = sizes.batches[1]
    lora, ours = match.sized(parse_methods("lora,lora-smoe"), "params", match.shapes_of(skeleton(name)))
    probe, batch = _probe(sizes, device), _batch(sizes, size)
    base = load_model(name, sizes.dtype, device)[0]
    attached = {m.name: m.attach(load_model(name, sizes.dtype, device)[0], probe, PLANNED) for m in (lora, ours)}
    compete: dict[str, Callable[[], object]] = {
        "lora": lambda: steps(attached["lora"], lora, [batch] * sizes.steps),
        "lora-smoe": lambda: steps(attached["lora-smoe"], ours, [batch] * sizes.steps),
        "pass": lambda: sensitivity(base, probe),
    }
    contest = SideBySide(compete, device)
    for _ in range(sizes.rounds):
        contest()
    ms = {which: f"{1000 * contest.median(which) / sizes.steps:.1f} ms" for which in attached}
    what = f"{name.removeprefix(RANDOM)}, {size} x {sizes.tokens} tokens, {sizes.dtype}"
    hundred = f"{contest.median('pass'):.2f} s for {sizes.documents} samples of each of {sizes.tasks} tasks"
    rows = [
        ratio(STEP, contest.over("lora-smoe", "lora"), f"{ms['lora-smoe']} / {ms['lora']}; {what}"),
        ratio(PASS, contest.over("pass", "lora", sizes.steps / 100), f"{hundred}; {what}"),
    ]

    def peak(method: str, phase: str, *at: str) -> float:
        cost = entries.get(method, {}).get(phase) or {}
        for key in at:
            cost = cost.get(key) or {}
        return cost.get("peak_allocated_bytes" if device == "cuda" else "peak_resident_bytes") or math.nan

    lora_bytes = peak("lora", "steps", str(size))
    for target, smoe_bytes in (
        (MEMORY, peak("lora-smoe", "steps", str(size))),
        (PASS_MEMORY, peak("lora-smoe", "allocate")),
    ):
        if math.isfinite(smoe_bytes / lora_bytes):
            rows.append(
                ratio(target, [smoe_bytes / lora_bytes], f"{smoe_bytes / 1e9:.2f} / {lora_bytes / 1e9:.2f} GB; {what}")
            )
    return rows


def compiled_ratios(name: str, sizes: Sizes, device: str) -> list[Ratio]:
    """Time what torch.compile makes of a step of LoRA and of LoRA-SMoE, compilation itself left out."""
    check_compiler(device)
    size = sizes.batches[1]
    probe, batch = _probe(sizes, device), _batch(sizes, size)
    rows = []
    for method in match.sized(parse_methods(",".join(COMPILED)), "params", match.shapes_of(skeleton(name))):
        model = method.attach(load_model(name, sizes.dtype, device)[0], probe, PLANNED)
        step = partial(steps, model, method, [batch] * sizes.steps)
        contest = SideBySide({"plain": step, "compiled": partial(step, compiled=True)}, device)
        for _ in range(sizes.rounds):
            contest()
        ms = " / ".join(f"{1000 * contest.median(which) / sizes.steps:.1f} ms" for which in ("compiled", "plain"))
        what = f"{name.removeprefix(RANDOM)}, {size} x {sizes.tokens} tokens, {sizes.dtype}"
        rows.append(ratio(COMPILED[method.name], contest.over("compiled", "plain"), f"{ms}; {what}"))
    return rows


def _example(rng: random.Random, sizes: Sizes) -> Example:
    return Example("", tuple(rng.choices(range(256), k=sizes.tokens)), 4, False)


def _batch(sizes: Sizes, size: int) -> tuple[batches.Batch, int]:
    rng = random.Random(size)
    return batches.collate([_example(rng, sizes) for _ in range(size)], 0), size * sizes.tokens


def _probe(sizes: Sizes, device: str) -> dict[str, list[batches.Batch]]:
    rng = random.Random(0)
    drawn = {f"task{t}": [_example(rng, sizes) for _ in range(sizes.documents)] for t in range(sizes.tasks)}
    samples = batches.probe(drawn, sizes.documents, sizes.batches[1], 0)
    return {
        task: [{k: v.to(device) for k, v in batch.items()} for batch in task_batches]
        for task, task_batches in samples.items()
    }


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"


def _begun(out: Path, sizes: Sizes, device: str) -> dict[str, Any]:
    """Return what the file holds of an earlier run of the same sizes, else the start of a new one."""
    asked = json.loads(json.dumps({"device": device, "sizes": asdict(sizes)}))
    if out.is_file():
        body = json.loads(out.read_text(encoding="utf-8"))
        if {key: body.get(key) for key in asked} == asked:
            return body
    where = environment(torch.cuda.get_device_name() if device == "cuda" else None)
    return {**asked, "environment": where, "entries": [], "ratios": [], "compiled": []}


def _write(out: Path, body: dict[str, Any]) -> None:
    write_whole(out, json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.studies.shapes")
