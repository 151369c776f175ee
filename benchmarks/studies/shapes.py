"""What adapter methods cost at the shapes of published models, weights random: allocation and a training step.

`... --out FILE` writes FILE after every method and goes on where it stopped; what failed is tried again. Methods are
matched in trainable parameters. By default the main ones, LoRA held in the model's dtype and LoRA of rank 32 beside
them, since one number for the opponent hides that PEFT multiplies in fp32 and that odd ranks are slow; `--every` adds
all others that have a layer of their own. Samples are as long as the longest of a run (`max_length`) and have no
padding; the probe is the default one, in batches of the size that the ratios are measured at. Random weights make all
tasks vote alike, so that LoRA-SMoE's pass is measured and thrown away: its step has the numbers of experts of a real
model, dealt at random. A step is what n more of them take, so that what every call to `train` does once is not in it.
For the ratios LoRA-SMoE and LoRA take turns. All of it is one process: a GPU node is there for minutes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from accelerate.utils import set_seed
from rich.console import Console
from transformers.utils import logging

from baselines.method import Method
from benchmarks.data import batches
from benchmarks.jobs.meter import measure
from benchmarks.models.load import count as count_parameters
from benchmarks.models.load import weights
from benchmarks.speed.ratios import Ratio, table
from benchmarks.speed.setting import steps
from benchmarks.studies.published.contestants import (
    REHEARSAL,
    Sizes,
    attached,
    batch_of,
    contestants,
    made,
    probe_of,
)
from benchmarks.studies.published.kernels import kernels_of
from benchmarks.studies.published.ratios import COMPARED, compiled_ratios, ratios
from results.environment import environment
from results.files import write_whole
from results.names import unknown

WARM = 3
TRIES = 2  # of a method that ended the process
FAILURES = (RuntimeError, ValueError)  # out of memory and whatever else CUDA says; a size that cannot be matched


PARTS = ("entries", "ratios", "compiled")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="JSON file of every figure.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cuda",
    parts: Annotated[str, typer.Option(help=f"Some of {', '.join(PARTS)}.")] = ",".join(PARTS),
    models: Annotated[str | None, typer.Option(help="random:NAME, several. [Qwen2.5-3B, Llama-3.1-8B]")] = None,
    every: Annotated[bool, typer.Option("--every", help="All methods, not the main ones alone.")] = False,
    rehearse: Annotated[bool, typer.Option("--rehearse", help="A toy model on the CPU: nothing is measured.")] = False,
) -> None:
    """Measure what is not in the file yet. Exit status 1 where nothing of what was asked could be measured."""
    logging.disable_progress_bar()
    for part in (asked := parts.split(",")):
        if part not in PARTS:
            raise typer.BadParameter(str(unknown("part", part, PARTS)))
    sizes, device = (REHEARSAL, "cpu") if rehearse else (Sizes(), device)
    names = models.split(",") if models and not rehearse else list(sizes.models)
    body = _begun(out, sizes, device)
    for name in names:
        every_one = contestants(every)
        first = {label: text for label, text in every_one.items() if label in COMPARED}
        if "entries" in asked:
            _entries(name, first, sizes, device, body, out)
        beside: dict[str, Callable[..., list[Ratio]]] = {"ratios": ratios, "compiled": compiled_ratios}
        for part in [part for part in asked if part in beside and name == sizes.models[0] and not body[part]]:
            typer.echo(f"{name} {part} ...", err=True)
            try:
                rows = beside[part](name, sizes, device, _of(body, name))
            except FAILURES as error:
                typer.echo(_told(error), err=True)
                continue
            body[part] = [row.to_json() for row in rows]
            _write(out, body)
            Console(width=160).print(table(rows))
        if "entries" in asked:  # what the ratios do without comes after them
            _entries(name, every_one, sizes, device, body, out)
    tried = [entry["error"] for entry in body["entries"] if entry["model"] in names]
    failed = [all(tried)] * ("entries" in asked) + [not body[p] for p in asked if p != "entries"]
    raise typer.Exit(1 if all(failed) else 0)


def _of(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {entry["method"]: entry for entry in body["entries"] if entry["model"] == name}


def _entries(name: str, methods: Mapping[str, str], sizes: Sizes, device: str, body: dict[str, Any], out: Path) -> None:
    """Measure every method at the model's shape that is not in `body`, and write it."""
    for label, text in methods.items():
        before = _of(body, name).get(label)
        if before is not None and (before["error"] is None or before["tries"] >= TRIES):
            continue
        typer.echo(f"{name} {label} ...", err=True)
        others = [e for e in body["entries"] if e is not before]
        started = {"model": name, "method": label, "tries": before["tries"] + 1 if before else 1}
        body["entries"] = [*others, {**started, "error": "the process ended"}]
        _write(out, body)  # so that a method that takes the process with it is not tried for ever
        body["entries"] = [*others, {**started, **measured(name, label, text, sizes, device)}]
        _write(out, body)


def measured(name: str, label: str, text: str, sizes: Sizes, device: str) -> dict[str, Any]:
    """Cost of the allocation, and of a training step at every batch size; an "error" in place of what failed."""
    costs: dict[str, Any] = {"allocate": None, "trainable_params": None, "steps": {}, "error": None}
    try:
        method = made(label, text, name)
        model = weights(name, sizes.dtype, device)
        probe = probe_of(sizes, device)
        set_seed(0)
        with measure(device) as meter:
            method, tuned = attached(label, method, model, probe, sizes)
        costs["allocate"] = asdict(meter.cost)  # type: ignore[arg-type]  # set when the block ends
        costs["trainable_params"] = count_parameters(tuned, trainable=True)
    except FAILURES as error:
        costs["error"] = _told(error)
        return costs
    for size in sizes.batches:
        try:
            costs["steps"][str(size)] = _step(tuned, method, batch_of(sizes, size), sizes.steps, device)
        except FAILURES as error:
            costs["steps"][str(size)] = {"error": _told(error)}
    if all("error" in cost for cost in costs["steps"].values()):
        costs["error"] = next(iter(costs["steps"].values()))["error"]
    return costs


def _step(model: Any, method: Method, batch: tuple[batches.Batch, int], count: int, device: str) -> dict[str, Any]:
    """Cost of one step, after a warm-up: what 2 n of them take beyond n, over n; and its kernels."""
    steps(model, method, [batch] * WARM)
    costs = []
    for times in (count, 2 * count):
        with measure(device, keep_cache=True) as meter:
            steps(model, method, [batch] * times)
        assert meter.cost is not None
        costs.append(meter.cost)
    a_step = (costs[1].wall_seconds - costs[0].wall_seconds) / count
    kernels = kernels_of(lambda times: steps(model, method, [batch] * times), device)
    return {**asdict(costs[1]), "wall_seconds": a_step, "tokens": batch[1], "profile": kernels}


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
