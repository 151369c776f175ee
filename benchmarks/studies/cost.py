"""Cost laws: `python -m benchmarks.studies.cost` runs the cost suite over one axis at a time, and draws what follows.

The base point is a narrow Llama with random weights; every axis is varied alone, so that each has its own law. The jobs
are ordinary ones, and a finished one is not run again. On a GPU, `--models random:Qwen2.5-3B,random:Qwen2.5-7B` puts
published shapes in the place of the widths and depths.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from baselines.allocator import Allocator
from baselines.experts import Experts
from baselines.method import Method
from benchmarks import registry
from benchmarks.data import prepared
from benchmarks.jobs import session
from benchmarks.plan.parse import MAIN
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from results import RunSpec
from results.store import SCRATCH, Store, folder_path

BASE: Mapping[str, int] = {"width": 256, "layers": 4, "length": 64, "experts": 4, "rank": 8, "probe": 4}
AXES: Mapping[str, tuple[int, ...]] = {
    "width": (128, 192, 256, 384, 512),
    "layers": (2, 4, 8),
    "length": (32, 64, 128, 256),
    "experts": (1, 2, 4, 8),
    "rank": (4, 8, 16, 32),
    "probe": (2, 4, 8),
}
EXPERTS = frozenset({"num_experts", "mean_experts"})  # hyperparameters by which a method has the size of a point
RANK = frozenset({"r", "target_r"})
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
@prepared.folder()
def main(
    methods: Annotated[str, typer.Option(help="Contestants, at the sizes of each point.")] = ",".join(MAIN),
    axes: Annotated[str, typer.Option(help="What is varied.")] = ",".join(AXES),
    models: Annotated[str | None, typer.Option(help="In the place of the narrow Llama; no width or depth.")] = None,
    documents: Annotated[int, typer.Option(help="Trained on; a quarter of them is evaluated.")] = 128,
    seeds: Annotated[str, typer.Option(help="Repeats.")] = "0",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(parser=folder_path, help="Folder of the records.")] = SCRATCH / "cost",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan as JSON and run nothing.")] = False,
) -> None:
    """Measure every method at every point, then draw the laws."""
    store = Store(out)
    common = dict(train_documents=documents, limit=max(documents // 32, 1), seeds=seeds, dtype=dtype, device=device)
    with session.refusals():
        specs = plan(methods.split(","), axes.split(","), models.split(",") if models else None, common)
        if dry_run:
            return session.print_plan(specs, {}, store)
        store.check_writable()
        session.preflight(specs)
    failed = session.run(specs, store)
    drawn = session.report(specs, store)
    raise typer.Exit(1 if failed or not drawn else 0)


def plan(methods: list[str], axes: list[str], models: list[str] | None, common: Mapping[str, Any]) -> list[RunSpec]:
    """Return the specs of every point, each once. Raises ValueError for an unknown axis or method."""
    specs: dict[str, RunSpec] = {}
    for axis in axes:
        if axis not in AXES:
            raise ValueError(f"axis {axis!r} is not one of: {', '.join(AXES)}")
        values = (BASE[axis],) if models and axis in ("width", "layers") else (BASE[axis], *AXES[axis])
        for model, value, method in product(models or [""], values, methods):
            point = {**BASE, axis: value}
            if value != BASE[axis] and not moves(axis, method):
                continue
            if axis == "experts" and value < _class(method).least_experts:
                continue
            request = Request(
                suite="cost",
                model=model or f"random:llama:width={point['width']}:layers={point['layers']}",
                methods=sized(method, point),
                max_length=point["length"],
                probe_documents=point["probe"],
                **common,
            )
            specs.update({spec.key: spec for spec in resolve(request)})
    return list(specs.values())


def moves(axis: str, method: str) -> bool:
    """Whether the axis means anything to the method."""
    if axis == "probe":
        return issubclass(_class(method), Allocator)
    names = {"experts": EXPERTS, "rank": RANK}.get(axis)
    return names is None or not names.isdisjoint(_defaults(method))


def sized(method: str, point: Mapping[str, int]) -> str:
    """Name the method as `--methods` reads it, at the size of a point; without experts, with the rank of them all."""
    experts, rank = point["experts"], point["rank"]
    defaults = _defaults(method)
    if not issubclass(_class(method), Experts) and EXPERTS.isdisjoint(defaults):
        rank *= experts
    sizes = {"r": rank} if "r" in defaults else {"target_r": rank, "init_r": rank * 3 // 2}
    sizes |= dict.fromkeys(EXPERTS, experts)
    return ":".join([method, *(f"{name}={value}" for name, value in sizes.items() if name in defaults)])


def _defaults(method: str) -> dict[str, Any]:
    """Hyperparameters of the method that have a value of their own."""
    return {f.name: f.default for f in dataclasses.fields(_class(method)) if f.default is not None}


def _class(method: str) -> type[Method]:
    return registry.method(method)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.studies.cost")
