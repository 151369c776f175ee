"""The command line: `python -m benchmarks.run --suite commonsense` is the main job.

Exit status: 0 all done, 1 some job failed, 2 bad request; 130 and 143 after Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import assets, batches, examples, models, registry, sources
from benchmarks.display import Display
from benchmarks.executors import ROOT, LocalProcesses
from benchmarks.plan import PROFILES, Request, estimate_seconds, resolve
from results import RunSpec
from results.store import RECORDS, SCRATCH, Store

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
DEFAULTS = Request()


@app.command()
def main(
    suite: Annotated[str, typer.Option(help="What is trained on and scored.")] = DEFAULTS.suite,
    methods: Annotated[
        str | None, typer.Option(help='Contestants, with settings: "lora:r=16,molora:num_experts=4". [main five]')
    ] = None,
    model: Annotated[str, typer.Option(help="smollm2-135m, tiny, a folder, a GGUF file or a hub id.")] = DEFAULTS.model,
    source: Annotated[str, typer.Option(help="Where documents come from.")] = DEFAULTS.source,
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
    mixture: Annotated[str | None, typer.Option(help="equal or proportional. [the suite's]")] = None,
    match: Annotated[
        str, typer.Option(help="Make every method equal to lora-smoe in params or experts; none: as they are.")
    ] = DEFAULTS.match,
    dtype: Annotated[str, typer.Option(help=f"{', '.join(models.DTYPES)}.")] = DEFAULTS.dtype,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = DEFAULTS.device,
    out: Annotated[Path, typer.Option(help="Folder of the records.")] = SCRATCH,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan as JSON and run nothing.")] = False,
    list_all: Annotated[bool, typer.Option("--list", help="Print the suites and methods there are.")] = False,
) -> None:
    """Train and evaluate every method on a suite, and print the comparison."""
    given = locals()
    if list_all:
        return print_list()
    options = {f.name: given[f.name] for f in dataclasses.fields(Request) if f.name in given}
    store = Store(out)
    try:
        specs = resolve(Request(**options))
        if dry_run:
            return print(json.dumps([{"key": s.key, **s.to_json()} for s in specs], indent=1))
        store.check_writable()
        check_assets(specs)
    except (ValueError, OSError, assets.AssetError) as error:
        Console(stderr=True).print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error
    raise typer.Exit(run(specs, store))


def run(specs: list[RunSpec], store: Store) -> int:
    """Run what is not finished, then print the table. Returns the exit status."""
    signal.signal(signal.SIGTERM, _interrupt)
    finished = store.all()
    display = Display(specs, {s.key for s in specs if store.find(s)}, _estimates(specs, finished))
    failed = 0
    try:
        with display:
            for record in LocalProcesses(store).run(specs, display.started):
                display.ended(record)
                failed += record.status == "failed"
    except KeyboardInterrupt as interrupt:
        display.console.print(f"stopped; finished records are kept in {_shown(store.folder)}, the same command goes on")
        return 143 if interrupt.args else 130
    except OSError as error:  # a full disk, a folder taken away
        display.console.print(f"stopped: {error}; finished records are kept in {_shown(store.folder)}", style="red")
        return 1
    for path, reason in store.set_aside:
        display.console.print(f"set aside: {path.name} ({reason}); its job was run again")
    report(specs, store)
    return 1 if failed else 0


def report(specs: list[RunSpec], store: Store) -> None:
    """Print the table and draw the report, by the reports' own command, which needs the records alone."""
    here, folder = [sys.executable, "-m", "reports"], store.folder.resolve()
    with tempfile.NamedTemporaryFile("w", suffix=".json") as keys:
        json.dump([s.key for s in specs], keys)
        keys.flush()
        subprocess.run([*here, "show", "--records", str(folder), "--keys-from", keys.name], cwd=ROOT, check=False)
    committed = folder == RECORDS
    out = ROOT / "reports" / "out" if committed else folder / "report"
    options = [] if committed else ["--auto-split"]
    subprocess.run([*here, "--records", str(folder), "--out", str(out), *options], cwd=ROOT, check=False)


def check_assets(specs: list[RunSpec]) -> None:
    """Fail now, not in the middle of the night: model and data are there and intact, and suit what was asked of them.

    Raises ValueError or AssetError.
    """
    for model in {s.model for s in specs}:
        if model == models.EMBEDDED:
            if not assets.is_converted():
                print("converting the embedded model to safetensors, once ...", flush=True)
            assets.embedded_model()
    sizes = {
        (source, tasks): {task: len(split["train"]) for task, split in sources.splits(source, tasks).items()}
        for source, tasks in {(s.source, s.tasks) for s in specs}
    }
    skeletons = {model: models.skeleton(model) for model in {s.model for s in specs}}
    for spec in specs:
        counts = examples.shares(sizes[spec.source, spec.tasks], spec.train_documents, spec.mixture)
        method = registry.methods()[spec.method](**spec.hyperparameters)
        steps = batches.steps(sum(counts.values()), spec.batch_size, spec.epochs)
        method.check(skeletons[spec.model], spec.tasks, steps)


def print_list() -> None:
    """Suites, methods, their hyperparameters with defaults, and their sources."""
    print("suites")
    for suite in registry.suites().values():
        print(f"  {suite.name:18} {suite.summary}; tasks: {', '.join(suite.tasks)}")
    print("methods")
    for name, cls in registry.methods().items():
        print(f"  {name:18} {cls.summary} [{cls.source}]")
        print(f"  {'':18} {', '.join(f'{f.name}={_default(f.default)}' for f in dataclasses.fields(cls)) or '-'}")
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


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt(signum)


if __name__ == "__main__":
    app()
