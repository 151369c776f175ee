"""The command line: `python -m benchmarks.run --suite commonsense` is the main job.

Exit status: 0 all done, 1 some job failed, 2 bad request; 130 and 143 after Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from baselines.importance import importances
from benchmarks import registry
from benchmarks.data import prepared
from benchmarks.data.tasks import OWN
from benchmarks.jobs import session
from benchmarks.plan import own_data, tune
from benchmarks.plan.options import Renamed, options_of
from benchmarks.plan.parse import MAIN
from benchmarks.plan.profiles import PROFILES
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import placing, resolve
from results import RunSpec
from results.store import SCRATCH, Store, folder_path
from smoe import DEFAULT_TARGETS, routers
from smoe.routers.balance import REDUCTIONS

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
FLAGS = {
    "learning_rate": ("--learning-rate", "--lr"),
    "compiled": ("--compile",),
    "gradient_checkpointing": ("--gradient-checkpointing",),
    "trust_remote_code": ("--trust-remote-code",),
}
RENAMED = {
    "--mixture": Renamed("adapters", {"multi": "shared", "single": "per-task"}),
    "--shares": Renamed("task_shares"),
    "--allocator": Renamed("malloc"),
}
BLOCKS = "target_modules"  # a hyperparameter of most methods, told once
Jobs = Annotated[int, typer.Option("--jobs", min=1, help="Side by side on this machine; their records give no times.")]


@app.command()
@options_of(Request, FLAGS, RENAMED)
@options_of(own_data.OwnData, {}, {})
@prepared.folder()
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
    jobs: Jobs = 1,
    job_timeout: Annotated[float | None, typer.Option(help="Seconds until a job is stopped. [no limit]")] = None,
    tracker: Annotated[
        str | None, typer.Option("--tracker", help="Told of every job: trackio, wandb or tensorboard. [none]")
    ] = None,
    keep_adapters: Annotated[
        bool,
        typer.Option("--keep-adapters", help="Keep trained adapters; python -m benchmarks.adapter hands them out."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan as JSON and run nothing.")] = False,
    no_report: Annotated[bool, typer.Option("--no-report", help="Run the jobs, and neither show nor draw.")] = False,
    only: Annotated[str | None, typer.Option(help="Keys of the plan, with commas; nothing is drawn.")] = None,
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
        session.check_watching(job_timeout, tracker)
        specs = planned(request, out, dry_run)
        grids = tune.grids(specs, tune.parse_rates(tune_lr) if tune_lr is not None else tune.RATES if tuned else ())
        grid_jobs = [job for jobs in grids.values() for job in jobs]
        if dry_run:
            session.preflight([*grid_jobs, *specs], dry=True)
            return session.print_plan(specs, tune.with_edges(grids, store.find), store)
        store.check_writable()
        if only is not None:
            ready, _ = tune.apply_best_rates(specs, grids, store.find)
            specs, grid_jobs = session.chosen(only, [*grid_jobs, *ready]), []
        session.preflight([*grid_jobs, *specs])
    run = functools.partial(session.run, store=store, job_timeout=job_timeout, tracker=tracker, at_once=jobs)
    if only is not None:
        raise typer.Exit(1 if run(specs, keep_adapters=keep_adapters) else 0)
    failed = run(grid_jobs) if grid_jobs else 0
    wider = tune.with_edges(grids, store.find)
    if edge := [job for name, of_row in wider.items() for job in of_row[len(grids[name]) :]]:
        Console().print("best rates at an edge of the grid: one rate beyond")
        failed += run(edge)
        grids, grid_jobs = wider, [*grid_jobs, *edge]
    specs, undecided = tune.apply_best_rates(specs, grids, store.find)
    session.tell_undecided(undecided)
    failed += run(specs, keep_adapters=keep_adapters)
    drawn = no_report or session.report([*grid_jobs, *specs], store)
    raise typer.Exit(1 if failed or undecided or not drawn else 0)


def planned(request: Mapping[str, Any], out: Path, dry_run: bool) -> list[RunSpec]:
    """Return the specs of a request; what is decided for it and what its own data holds is said.

    out: folder of the records, below which tasks of one's own files lie. Raises ValueError for a bad request.
    """
    own = own_data.made(own_data.OwnData(**{name: request[name] for name in own_data.NAMES}))
    asked = {name: value for name, value in request.items() if name not in own_data.NAMES}
    if own is not None:
        place = Path(os.environ[prepared.FOLDER]) if dry_run else out
        asked = own_data.asked_with(asked, own, place / "tasks")
    specs = resolve(Request(**asked))
    session.check_outside(out)
    for line in (*placing(specs), *(own_data.told(own, specs[0]) if own is not None else ())):
        print(line, file=sys.stderr if dry_run else sys.stdout, flush=True)
    return specs


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
        if getattr(cls, "balance_loss", 0):
            print(f"  {'':18} balance loss: {REDUCTIONS[cls.balance_reduction]}")  # type: ignore[attr-defined]
        if cls.departures:
            print(f"  {'':18} departures: {cls.departures}")
    for name, reason in registry.broken().items():
        print(f"  {name:18} cannot be used: {reason}")
    for title, entries in (("importances", importances()), ("routers", routers())):
        print(f"{title} (as in --methods experts:{title[:-1]}=NAME)")
        for name, entry in entries.items():
            print(f"  {name:24} {entry.summary} [{entry.source}]")  # type: ignore[attr-defined]
    print("profiles")
    for name, profile in PROFILES.items():
        print(f"  {name:18} {', '.join(f'{k}={v}' for k, v in dataclasses.asdict(profile).items())}")


def _shown(value: Any) -> str:
    return "+".join(value) if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    app()
