"""How far an allocation hangs on its probe: `python -m benchmarks.studies.stability`.

The paper's ablation varies the number of samples a block is scored on (36 to 288 steps of its 36-layer model: 1, 2, 4
and 8). Here every allocator that reads a probe is run on 1, 2, 4, 8 and 16 documents a task, for several draws of those
documents; a smaller probe is the beginning of a larger one. Nothing is trained. `python -m reports` draws the overlap
and answers in words; whether a score that agrees more also trains better is asked by `study agreement`.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import Progress

from baselines.allocator import Allocator
from baselines.importance import importances
from baselines.method import Method
from benchmarks import registry
from benchmarks.data import batches, examples, sources
from benchmarks.data.tasks import is_written, task_objects, training_docs, training_pairs
from benchmarks.jobs import asking
from benchmarks.jobs.session import refusals
from benchmarks.models.load import DTYPES, EMBEDDED
from benchmarks.models.load import check as check_model
from benchmarks.models.load import load as load_model
from benchmarks.plan.device import device as usable
from benchmarks.plan.parse import parse_methods, parse_revisions, parse_seeds
from benchmarks.plan.request import Request
from results.environment import environment
from results.names import pick
from results.spec import RecordError
from results.store import SCRATCH, StoreError
from results.studies.stability import DESIGN, NO, QUESTION, STABILITY, UNDECIDED, YES, Stability
from smoe import Probe

EVERY = ",".join(f"experts:importance={name}" for name in importances() if not name.startswith("mola"))
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    suite: Annotated[str, typer.Option(help="Whose tasks are sampled.")] = "commonsense",
    methods: Annotated[
        str, typer.Option(help="Allocators, as in benchmarks.run; all: every importance.")
    ] = "lora-smoe",
    model: Annotated[str, typer.Option(help="As in benchmarks.run.")] = EMBEDDED,
    source: Annotated[str, typer.Option(help="Where documents come from.")] = "embedded",
    revision: Annotated[str | None, typer.Option(help="Commits of hub data sets, as in benchmarks.run.")] = None,
    samples: Annotated[str, typer.Option(help="Documents a task, several sizes.")] = "1,2,4,8,16",
    seeds: Annotated[str, typer.Option(help="Draws of the documents.")] = "0-4",
    dtype: Annotated[str, typer.Option(help=f"{', '.join(DTYPES)}.")] = "bfloat16",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    max_length: Annotated[int, typer.Option(help="Tokens of a document.")] = 256,
    out: Annotated[Path, typer.Option(help="Folder of the measurements.")] = SCRATCH / "stability",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is asked and what it costs.")] = False,
) -> None:
    """Allocate from probes of several sizes and draws, and keep every allocation."""
    console = Console()
    try:
        with refusals():
            chosen = pick("suite", suite, registry.suites())
            check_model(model)
            asked: dict[str, Any] = dict(dtype=dtype, device=device, max_length=max_length)
            Request(**asked)
            device = usable(device)
            sizes, draws = parse_seeds(samples, 0), parse_seeds(seeds, 0)
            if min(sizes) < 1:
                raise ValueError(f"samples {samples!r} must be 1 or more")
            allocators = [_allocator(method) for method in parse_methods(EVERY if methods == "all" else methods)]
            revisions = sources.revisions(source, chosen.tasks, parse_revisions(revision))
            about = dict(suite=chosen.name, source=source, model=model, dtype=dtype, max_length=max_length)
            plans = [_started(_plan(method, about, revisions), out) for method in allocators]
            grid = [(seed, size) for seed in draws for size in sizes]
            _say(plans, grid)
            if dry_run:
                return
            loaded, tokenizer = load_model(model, dtype, device)
            documents = _documents(source, chosen.tasks, revisions)
            drawn = {seed: _probe(documents, tokenizer, seed, max(sizes), max_length, device) for seed in draws}
            with Progress(console=console, disable=not console.is_terminal) as bars:
                bar = bars.add_task("allocations", total=len(plans) * len(grid))
                for method, plan in zip(allocators, plans, strict=True):
                    for seed, size in grid:
                        if (seed, size) not in plan.allocations:
                            probe = {name: batches[:size] for name, batches in drawn[seed].items()}
                            _allocate(plan, method, loaded, probe, seed, size)
                            plan.save(out)
                        bars.advance(bar)
    except KeyboardInterrupt:
        console.print("stopped; finished allocations are kept, the same command goes on")
        raise typer.Exit(130) from None
    for plan in plans:
        console.print(f"{plan.name}: {len(plan.allocations)} allocations", highlight=False)


def _say(plans: Sequence[Stability], grid: Sequence[tuple[int, int]]) -> None:
    """Print the question and the hours that are left: each size as long as a measured one, by its documents."""
    asking.tell(QUESTION, DESIGN, YES, NO, UNDECIDED)
    left = [(plan, size) for plan in plans for seed, size in grid if (seed, size) not in plan.allocations]
    hours = []
    for plan, size in left:
        a_document = [seconds / n for (_, n), seconds in plan.seconds.items()]
        hours += [statistics.median(a_document) * size / 3600] if a_document else []
    cost = f"about {sum(hours):.2f} hours for {len(hours)} of them" if hours else "not known: none was measured"
    typer.echo(f"Allocations: {len(plans) * len(grid)}, of which {len(left)} are left; cost: {cost}")


def _plan(method: Allocator, about: Mapping[str, Any], revisions: Mapping[str, str] | None) -> Stability:
    """Return what an allocator is to be measured on, before any allocation."""
    return Stability(
        **about,
        method=method.name,
        hyperparameters=json.loads(json.dumps(method.hyperparameters())),
        environment={**environment(), "revisions": revisions},
    )


def _allocate(plan: Stability, method: Allocator, model: Any, probe: Probe, seed: int, size: int) -> None:
    """Allocate once, and keep the allocation and its seconds in `plan`."""
    torch.manual_seed(seed)
    start = time.perf_counter()
    plan.allocations[seed, size] = dict(method.allocate(model, probe)[0])
    plan.seconds[seed, size] = round(time.perf_counter() - start, 3)


def _allocator(method: Method) -> Allocator:
    if not isinstance(method, Allocator):
        allocators = [name for name, cls in registry.methods().items() if issubclass(cls, Allocator)]
        raise ValueError(f"{method.name} is no allocator; allocators: {', '.join(allocators)}")
    return method


def _started(plan: Stability, out: Path) -> Stability:
    """`plan` with what an earlier run finished. Raises StoreError for uncommitted code among committed results."""
    if out.resolve() == STABILITY and plan.environment.get("git_dirty"):
        raise StoreError("uncommitted code: commit first, or choose another folder with --out")
    path = out / f"{plan.name}.json"
    if path.is_file():
        try:
            before = Stability.load(path)
        except RecordError as error:
            path.replace(path.with_suffix(".json.broken"))
            Console(stderr=True).print(f"set aside: {error}", highlight=False, markup=False)
        else:
            # A file holds the allocations of one state of the code and of the data sets only.
            if all(before.environment.get(k) == plan.environment.get(k) for k in ("git_commit", "revisions")):
                return before
    return plan


def _documents(source: str, tasks: tuple[str, ...], revisions: Mapping[str, str] | None) -> dict[str, tuple]:
    """Return lm-eval's task and its training documents for each task."""
    objects = task_objects(sources.splits(source, tasks, revisions=revisions))
    return {name: (task, training_docs(task)) for name, task in objects.items()}


def _probe(documents: dict, tokenizer: object, seed: int, size: int, max_length: int, device: str) -> Probe:
    """Take the first `size` documents of each task's draw, one a batch: a larger probe begins with a smaller one.

    Raises ValueError, before anything is allocated, for a document whose answer is longer than `max_length`.
    """
    probe = {}
    for name, (task, docs) in documents.items():
        pairs = training_pairs(task, examples.sample_documents(docs, size, seed, name))
        encoded = [examples.encode(tokenizer, name, c, a, max_length, is_written(task)) for c, a in pairs]
        pad = tokenizer.pad_token_id  # type: ignore[attr-defined]
        probe[name] = [{k: v.to(device) for k, v in batches.collate([e], pad).items()} for e in encoded]
    return probe


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.studies.stability")
