"""The command line: `python -m benchmarks.run --suite commonsense` is the main job.

Exit status: 0 all done, 1 some job failed, 2 bad request; 130 and 143 after Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import registry
from benchmarks.data.tasks import OWN
from benchmarks.jobs import session
from benchmarks.plan import tune
from benchmarks.plan.options import Renamed, options_of
from benchmarks.plan.parse import MAIN
from benchmarks.plan.profiles import PROFILES
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from results.store import SCRATCH, Store, folder_path
from smoe import DEFAULT_TARGETS

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
FLAGS = {
    "learning_rate": ("--learning-rate", "--lr"),
    "compiled": ("--compile",),
    "trust_remote_code": ("--trust-remote-code",),
}
RENAMED = {
    "--mixture": Renamed("adapters", {"multi": "shared", "single": "per-task"}),
    "--shares": Renamed("task_shares"),
    "--allocator": Renamed("malloc"),
}
BLOCKS = "target_modules"  # a hyperparameter of most methods, told once


@app.command()
@options_of(Request, FLAGS, RENAMED)
def main(
    *,
    include_path: Annotated[
        Path | None, typer.Option(help="Folder of lm-eval tasks of your own.", exists=True, file_okay=False)
    ] = None,
    tuned: Annotated[
        bool, typer.Option("--tuned", help="Choose every method's learning rate on held-out training documents.")
    ] = False,
    tune_lr: Annotated[
        str | None, typer.Option("--tune-lr", help="The same, from rates of your own: 1e-4,3e-4,1e-3.")
    ] = None,
    out: Annotated[Path, typer.Option(parser=folder_path, help="Folder of the records.")] = SCRATCH,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan as JSON and run nothing.")] = False,
    list_all: Annotated[bool, typer.Option("--list", help="Print the suites and methods there are.")] = False,
    **request: Any,
) -> None:
    """Train and evaluate every method on a suite, and print the comparison."""
    if list_all:
        return print_list()
    if include_path is not None:
        os.environ[OWN] = str(include_path.resolve())  # where the jobs' processes look, too
    store = Store(out)
    with session.refusals():
        specs = resolve(Request(**request))
        rates = tune.RATES if tuned else ()
        grids = tune.grids(specs, tune.parse_rates(tune_lr) if tune_lr is not None else rates)
        grid_jobs = [job for jobs in grids.values() for job in jobs]
        if dry_run:
            return session.print_plan(specs, grids, store)
        store.check_writable()
        session.preflight([*grid_jobs, *specs])
    failed = session.run(grid_jobs, store) if grid_jobs else 0
    if further := tune.edge_jobs(grids, store.find):
        edge = [job for jobs in further.values() for job in jobs]
        Console().print(f"{len(edge)} best at an edge of the grid: one rate beyond it")
        failed += session.run(edge, store)
        grids = {name: [*jobs, *further.get(name, ())] for name, jobs in grids.items()}
        grid_jobs += edge
    specs, undecided = tune.apply_best_rates(specs, grids, store.find)
    for spec in undecided:
        Console().print(f"{spec.method} seed {spec.seed}: left out, no job of its grid finished", style="red")
    failed += session.run(specs, store)
    drawn = session.report([*grid_jobs, *specs], store)
    raise typer.Exit(1 if failed or undecided or not drawn else 0)


def print_list() -> None:
    """Print suites, methods, their hyperparameters with defaults, and profiles; * marks the methods of a plain run."""
    print("suites")
    for suite in registry.suites().values():
        print(f"  {suite.name:18} {suite.summary}; tasks: {', '.join(suite.tasks)}")
        print(f"  {'':18} protocols: {', '.join(suite.protocols)}")
    print(f"methods (*: where --methods names none; {BLOCKS}={_shown(DEFAULT_TARGETS)} but where another is named)")
    for name, cls in registry.methods().items():
        fields = [f for f in dataclasses.fields(cls) if (f.name, f.default) != (BLOCKS, DEFAULT_TARGETS)]
        print(f"{'*' if name in MAIN else ' '} {name:18} {cls.summary} [{cls.source}]")
        print(f"  {'':18} {', '.join(f'{f.name}={_shown(f.default)}' for f in fields) or '-'}")
    for name, reason in registry.broken().items():
        print(f"  {name:18} cannot be used: {reason}")
    print("profiles")
    for name, profile in PROFILES.items():
        print(f"  {name:18} {', '.join(f'{k}={v}' for k, v in dataclasses.asdict(profile).items())}")


def _shown(value: Any) -> str:
    return "+".join(value) if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    app()
