"""The command line: `python -m benchmarks.run --suite commonsense` is the main job.

Exit status: 0 all done, 1 some job failed, 2 bad request; 130 and 143 after Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import registry
from benchmarks.data import batches, examples, sources, synthetic
from benchmarks.data.tasks import OWN
from benchmarks.jobs.display import Display
from benchmarks.jobs.executors import ROOT, LocalProcesses, interruptible
from benchmarks.models import assets
from benchmarks.models import load as models
from benchmarks.plan import tune
from benchmarks.plan.resolve import PROFILES, Request, estimate_seconds, resolve
from results import RunSpec
from results.record import COST
from results.store import RECORDS, SCRATCH, Store

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
DEFAULTS = Request()


@app.command()
def main(
    suite: Annotated[str, typer.Option(help="What is trained on and scored.")] = DEFAULTS.suite,
    tasks: Annotated[str | None, typer.Option(help="lm-eval tasks in place of a suite: arc_easy,sciq.")] = None,
    include_path: Annotated[
        Path | None,
        typer.Option(help="Folder of lm-eval tasks of your own.", exists=True, file_okay=False),
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help='Contestants, with settings: "lora:r=16,molora:num_experts=4". [main five]')
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="smollm2-135m, tiny, random:<name>, a folder, a GGUF file or a hub id. [the profile's]"),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Where documents come from: embedded or hub. [the profile's: embedded]")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Commits of hub data sets: cais/mmlu=0123abc. [the newest, recorded]")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="loglik: scores the choices; generative: writes an answer. [the suite's]")
    ] = None,
    profile: Annotated[str, typer.Option(help=f"Size of the run: {', '.join(PROFILES)}.")] = DEFAULTS.profile,
    seeds: Annotated[str | None, typer.Option(help="0,1,2 or 0-4. [the profile's]")] = None,
    train_documents: Annotated[int | None, typer.Option(help="Over all tasks. [the profile's]")] = None,
    limit: Annotated[int | None, typer.Option(help="Evaluation documents a task. [the profile's]")] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the training documents.")] = DEFAULTS.epochs,
    batch_size: Annotated[int, typer.Option(help="Documents in an optimiser step.")] = DEFAULTS.batch_size,
    learning_rate: Annotated[float, typer.Option("--learning-rate", "--lr", help="Peak.")] = DEFAULTS.learning_rate,
    max_length: Annotated[int, typer.Option(help="Tokens of a training document.")] = DEFAULTS.max_length,
    probe_documents: Annotated[
        int, typer.Option(help="Documents a task that allocators may read.")
    ] = DEFAULTS.probe_documents,
    evaluation_batch_size: Annotated[
        int, typer.Option(help="Requests scored at once; scores in bfloat16 move with it.")
    ] = DEFAULTS.evaluation_batch_size,
    mixture: Annotated[
        str, typer.Option(help="multi: one adapter trained on all tasks; single: one for each.")
    ] = DEFAULTS.mixture,
    shares: Annotated[
        str | None, typer.Option(help="Of each task in training: equal, proportional, temperature:2. [the suite's]")
    ] = None,
    tune_lr: Annotated[
        str | None, typer.Option("--tune-lr", help="Choose every method's rate from these: 1e-4,3e-4,1e-3.")
    ] = None,
    match: Annotated[
        str, typer.Option(help="Make every method equal to lora-smoe in params or experts; none: as they are.")
    ] = DEFAULTS.match,
    dtype: Annotated[str, typer.Option(help=f"{', '.join(models.DTYPES)}.")] = DEFAULTS.dtype,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = DEFAULTS.device,
    quantize: Annotated[str, typer.Option(help="4bit or 8bit: the frozen model, by bitsandbytes.")] = DEFAULTS.quantize,
    allocator: Annotated[
        str, typer.Option(help="heap, or mapped: peak memory repeats within 1%, at up to twice the time. CPU only.")
    ] = DEFAULTS.allocator,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Train through torch.compile; the first steps compile.")
    ] = DEFAULTS.compiled,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let the model's repository run its own code.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder of the records.")] = SCRATCH,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan as JSON and run nothing.")] = False,
    list_all: Annotated[bool, typer.Option("--list", help="Print the suites and methods there are.")] = False,
) -> None:
    """Train and evaluate every method on a suite, and print the comparison."""
    given = locals()
    if list_all:
        return print_list()
    if include_path is not None:
        os.environ[OWN] = str(include_path.resolve())  # where the jobs' processes look, too
    options = {f.name: given[f.name] for f in dataclasses.fields(Request) if f.name in given}
    store = Store(out)
    try:
        specs = resolve(Request(**options))
        grids = tune.grids(specs, tune.parse_rates(tune_lr) if tune_lr is not None else ())
        grid_jobs = [job for jobs in grids.values() for job in jobs]
        if dry_run:
            return print_plan(specs, grids, store)
        store.check_writable()
        check_assets([*grid_jobs, *specs])
    except (ValueError, OSError, assets.AssetError) as error:
        Console(stderr=True).print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error
    failed = run(grid_jobs, store) if grid_jobs else 0
    specs, undecided = tune.decided(specs, grids, store.find)
    for spec in undecided:
        Console().print(f"{spec.method} seed {spec.seed}: left out, no job of its grid finished", style="red")
    failed += run(specs, store)
    drawn = report([*grid_jobs, *specs], store)
    raise typer.Exit(1 if failed or undecided or not drawn else 0)


def run(specs: list[RunSpec], store: Store) -> int:
    """Run what is not finished. Returns the number of failed jobs; raises typer.Exit where it had to stop."""
    finished = store.all()
    display = Display(specs, {s.key for s in specs if store.find(s)}, _estimates(specs, finished))
    failed = 0
    try:
        with interruptible(), display:
            for record in LocalProcesses(store).run(specs, display.started):
                display.ended(record)
                failed += record.status == "failed"
    except KeyboardInterrupt as interrupt:
        display.console.print(f"stopped; finished records are kept in {_shown(store.folder)}, the same command goes on")
        raise typer.Exit(143 if interrupt.args else 130) from None
    except OSError as error:  # a full disk, a folder taken away
        display.console.print(f"stopped: {error}; finished records are kept in {_shown(store.folder)}", style="red")
        raise typer.Exit(1) from None
    for path, reason in store.set_aside:
        display.console.print(f"set aside: {path.name} ({reason}); its job was run again")
    return failed


def print_plan(specs: list[RunSpec], grids: dict[str, list[RunSpec]], store: Store) -> None:
    """The jobs as JSON: those of the grids first; key and rate are null where a grid has yet to decide."""
    ready, undecided = tune.decided(specs, grids, store.find)
    jobs = [{"key": s.key, **s.to_json()} for s in [*(job for jobs in grids.values() for job in jobs), *ready]]
    print(json.dumps([*jobs, *({**s.to_json(), "key": None, "learning_rate": None} for s in undecided)], indent=1))


def report(specs: list[RunSpec], store: Store) -> bool:
    """Print the table and draw the report, by the reports' own command, which needs records alone; False: it failed."""
    here, folder = [sys.executable, "-m", "reports"], store.folder.resolve()
    if specs[0].protocol == COST:
        laws = [
            sys.executable,
            "-m",
            "reports.analysis.cost_laws",
            "--records",
            str(folder),
            "--out",
            str(folder / "laws"),
        ]
        return subprocess.run(laws, cwd=ROOT).returncode == 0
    with tempfile.NamedTemporaryFile("w", suffix=".json") as keys:
        json.dump([s.key for s in specs], keys)
        keys.flush()
        shown = subprocess.run([*here, "show", "--records", str(folder), "--keys-from", keys.name], cwd=ROOT)
    committed = folder == RECORDS
    out = ROOT / "reports" / "out" if committed else folder / "report"
    options = [] if committed else ["--auto-split"]
    done = subprocess.run([*here, "--records", str(folder), "--out", str(out), *options], cwd=ROOT)
    return shown.returncode == done.returncode == 0


def check_assets(specs: list[RunSpec]) -> None:
    """Fail now, not in the middle of the night: model and data are there and intact, and suit what was asked of them.

    Raises ValueError or AssetError.
    """
    for model in {s.model for s in specs}:
        if models.needs_embedded(model):
            if not assets.is_converted():
                print("converting the embedded model to safetensors, once ...", flush=True)
            assets.embedded_model()
    sizes = {
        asked: {task: len(documents["train"]) for task, documents in sources.splits(*asked, revisions).items()}
        for asked, revisions in {(s.source, s.tasks, s.split): s.revisions for s in specs if s.protocol != COST}.items()
    }
    skeletons = {name: models.skeleton(name, trust) for name, trust in {(s.model, s.trust_remote_code) for s in specs}}
    for spec in specs:
        there = synthetic.sizes(spec) if spec.protocol == COST else sizes[spec.source, spec.tasks, spec.split]
        counts = examples.shares(there, spec.train_documents, spec.mixture)
        method = registry.methods()[spec.method](**spec.hyperparameters)
        for tasks in spec.trained_together:
            steps = batches.num_optimizer_steps(sum(counts[task] for task in tasks), spec.batch_size, spec.epochs)
            method.check(skeletons[spec.model], tasks, steps)


def print_list() -> None:
    """Suites, methods, their hyperparameters with defaults, and their sources."""
    print("suites")
    for suite in registry.suites().values():
        print(f"  {suite.name:18} {suite.summary}; tasks: {', '.join(suite.tasks)}")
        print(f"  {'':18} protocols: {', '.join(suite.protocols)}")
    print("methods")
    for name, cls in registry.methods().items():
        print(f"  {name:18} {cls.summary} [{cls.source}]")
        print(f"  {'':18} {', '.join(f'{f.name}={_default(f.default)}' for f in dataclasses.fields(cls)) or '-'}")
    for name, reason in registry.broken().items():
        print(f"  {name:18} cannot be used: {reason}")
    print("profiles")
    for name, profile in PROFILES.items():
        print(f"  {name:18} {', '.join(f'{k}={v}' for k, v in dataclasses.asdict(profile).items())}")


def _default(value: Any) -> str:
    return "+".join(value) if isinstance(value, tuple) else str(value)


def _estimates(specs: list[RunSpec], finished: list) -> dict[str, float | None]:
    known = finished or Store(RECORDS).all()
    return {s.key: estimate_seconds(s, known) for s in specs}


def _shown(folder: Path) -> str:
    folder = folder.resolve()
    return str(folder.relative_to(Path.cwd())) if folder.is_relative_to(Path.cwd()) else str(folder)


if __name__ == "__main__":
    app()
