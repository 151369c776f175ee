"""A session of jobs: what must be there before the first, the jobs themselves, and the report after the last.

Commands share it: `benchmarks.run` and the studies that train.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks import registry
from benchmarks.data import batches, training
from benchmarks.data.protocols import protocol
from benchmarks.data.tasks import OWN
from benchmarks.jobs.executors import ROOT, LocalProcesses, interruptible
from benchmarks.jobs.kept import places
from benchmarks.jobs.meter import since_start
from benchmarks.jobs.watch import trackers
from benchmarks.jobs.watch.display import Display
from benchmarks.models import assets, behaviour
from benchmarks.models import load as models
from benchmarks.plan import blocks, dry_run, tune
from benchmarks.plan.estimate import estimate_seconds
from results import Record, RunSpec
from results.environment import processor
from results.names import pick
from results.store import RECORDS, Store

SCORED = (  # what decides the requests that a job scores
    "model", "model_content", "suite", "tasks", "task", "source", "split", "revisions", "own_tasks", "protocol",
    "evaluation_limit",
)  # fmt: skip
# What this process took to import all that a job needs: for want of a record, what is around the phases of a job.
IMPORTED = start.wall_seconds if (start := since_start()) else 0.0
DRAWN = ("task_shares", "data_seed", "train_documents", "max_length", "epochs")  # and the examples that it trains on


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """End the command with exit status 2 and one line on stderr where a request is refused inside."""
    try:
        yield
    except (ValueError, OSError, assets.AssetError) as error:
        console = Console(stderr=True)
        console.print("[red]error:[/]", end=" ")
        console.print(str(error), highlight=False, soft_wrap=True, markup=False)
        raise SystemExit(2) from error


def preflight(specs: Sequence[RunSpec], dry: bool = False) -> None:
    """Fail now, not in the middle of the night: model and data are there and intact, and suit what was asked of them.

    dry: nothing is to run, so the model is not, and what is not there is said on stderr alone. Raises ValueError or
    AssetError.
    """
    if dry:
        try:
            return _check_data(specs)
        except (OSError, assets.AssetError) as error:
            return print(f"not looked at: {error}", file=sys.stderr)
    for model in {s.model for s in specs}:
        if models.needs_embedded(model):
            if not assets.is_converted():
                print("converting the embedded model to safetensors, once ...", flush=True)
            assets.embedded_model()
    _check_data(specs)
    for model, content, trust in {(s.model, s.model_content, s.trust_remote_code) for s in specs}:
        behaviour.check(model, content, trust)


def _check_data(specs: Sequence[RunSpec]) -> None:
    """Make every example and request that the jobs will read, and ask every method what it makes of model and tasks."""
    training.forget()
    evaluated: set[tuple] = set()
    counts: dict[tuple, dict[str, int]] = {}  # of what several specs share, read once
    for spec in specs:
        skeleton, tokenizer = _base(spec.model, spec.model_content, spec.trust_remote_code)
        scored, drawn = (tuple(json.dumps(getattr(spec, name)) for name in names) for names in (SCORED, DRAWN))
        if (read := (*scored, *drawn)) not in counts:
            counts[read] = dry_run.documents(spec, tokenizer, skeleton, evaluation=scored not in evaluated)
            evaluated.add(scored)
        method = registry.method(spec.method)(**spec.hyperparameters)
        method = blocks.with_blocks(method, blocks.chosen(skeleton, method, spec.targets))
        steps = batches.num_optimizer_steps(sum(counts[read].values()), spec.batch_size, spec.epochs)
        if method.trains and spec.epochs and not steps:
            raise ValueError(
                f"epochs {spec.epochs:g} of {sum(counts[read].values())} training documents are no step of "
                f"{spec.batch_size} documents; ask for more epochs, or for 0 to train nothing"
            )
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # PEFT reads a deprecated property
            method.check(skeleton, spec.trained_tasks, steps)


@functools.lru_cache(maxsize=4)
def _base(model: str, content: str | None, trust_remote_code: bool) -> tuple[Any, Any]:
    """Return the model of this content without weights, and its tokeniser."""
    skeleton = models.skeleton(model, trust_remote_code)
    return skeleton, models.load_tokenizer(model, skeleton, trust_remote_code)


def chosen(keys: str, jobs: Sequence[RunSpec]) -> list[RunSpec]:
    """Return the jobs of a plan that a text of keys with commas names. Raises ValueError with the nearest keys."""
    plan = {job.key: job for job in jobs}
    return [pick("key of this plan", key.strip(), plan) for key in keys.split(",")]


def check_outside(out: Path) -> None:
    """Raise ValueError for a folder of records inside one of one's own tasks, whose content is part of every key."""
    for folder in filter(None, os.environ.get(OWN, "").split(os.pathsep)):
        if out.resolve().is_relative_to(Path(folder).resolve()):
            raise ValueError(
                f"out {out} lies in the folder of one's own tasks, {folder}, whose files are part of every key; "
                "choose a folder outside of it with --out"
            )


def check_watching(job_timeout: float | None, tracker: str | None) -> None:
    """Raise ValueError for a limit that is no time and for a tracker that is not there."""
    if job_timeout is not None and not 0 < job_timeout < math.inf:
        raise ValueError(f"--job-timeout {job_timeout:g}: a number of seconds above 0, or leave it out for no limit")
    if tracker is not None:
        trackers.check(tracker)


def run(
    specs: Sequence[RunSpec],
    store: Store,
    *,
    job_timeout: float | None = None,
    tracker: str | None = None,
    keep_adapters: bool = False,
    at_once: int = 1,
) -> int:
    """Run what is not finished. Returns the number of failed jobs; raises SystemExit where it had to stop.

    job_timeout: seconds that a job may take; tracker: name of one that is told of every job; keep_adapters: whether
    trained adapters are kept below the store; at_once: jobs side by side.
    """
    for spec in specs:
        store.quarantine(spec.key)  # what is there and no record would be overwritten
    expected = estimates(specs, store.all())
    display = Display(specs, {s.key for s in specs if places.found(store, s, keep_adapters)}, expected, at_once)
    display.console.print(f"watch: python -m benchmarks.status {_shown(store.folder)}", highlight=False, markup=False)
    failed = 0
    try:
        with interruptible(), display:
            jobs = LocalProcesses(store, job_timeout, tracker, expected, keep_adapters, at_once)
            for record in jobs.run(specs, display.started):
                display.ended(record)
                failed += record.status == "failed"
    except KeyboardInterrupt as interrupt:
        kept = f"stopped; finished records are kept in {_shown(store.folder)}, the same command goes on"
        display.console.print(kept, markup=False)
        raise SystemExit(143 if interrupt.args else 130) from None
    except OSError as error:  # a full disk, a folder taken away
        display.console.print(
            f"stopped: {error}; finished records are kept in {_shown(store.folder)}; "
            "mend that and give the same command again: it goes on where it stopped",
            style="red",
            markup=False,
        )
        raise SystemExit(1) from None
    for path, reason in store.set_aside:
        display.console.print(f"set aside: {path.name} ({reason}); its job was run again", markup=False)
    return failed


def tell_undecided(undecided: Sequence[RunSpec]) -> None:
    """Name the jobs that have no learning rate, since no job of their grid finished."""
    for spec in undecided:
        text = f"{spec.method} seed {spec.seed}: left out, no job of its grid finished"
        Console().print(text, style="red", markup=False)


def print_plan(specs: Sequence[RunSpec], grids: Mapping[str, Sequence[RunSpec]], store: Store) -> None:
    """Print the jobs as JSON: those of the grids first; key and rate are null where a grid has yet to decide."""
    ready, undecided = tune.apply_best_rates(specs, grids, store.find)
    jobs = [{"key": s.key, **s.to_json()} for s in [*(job for jobs in grids.values() for job in jobs), *ready]]
    print(json.dumps([*jobs, *({**s.to_json(), "key": None, "learning_rate": None} for s in undecided)], indent=1))


def report(specs: Sequence[RunSpec], store: Store) -> bool:
    """Print the table and draw the report by the reports' own commands, which need records alone; False: one failed."""
    here, folder = [sys.executable, "-m"], store.folder.resolve()
    if (drawing := protocol(specs[0].protocol).report) is not None:
        command = ["reports", drawing, "--records", str(folder), "--out", str(folder / drawing)]
        return subprocess.run([*here, *command], cwd=ROOT).returncode == 0
    with tempfile.NamedTemporaryFile("w", suffix=".json") as keys:
        json.dump([s.key for s in specs], keys)
        keys.flush()
        show = ["reports", "show", "--records", str(folder), "--keys-from", keys.name]
        shown = subprocess.run([*here, *show], cwd=ROOT)
    committed = folder == RECORDS
    out = ROOT / "reports" / "out" / "main" if committed else folder / "report"
    draw = ["reports", "--records", str(folder), "--out", str(out), *([] if committed else ["--auto-split"])]
    drawn = subprocess.run([*here, *draw], cwd=ROOT)
    return shown.returncode == drawn.returncode == 0


def estimates(specs: Sequence[RunSpec], finished: Sequence[Record]) -> dict[str, float | None]:
    """Estimate every job: from records of this folder and from committed ones."""
    records = [*finished, *Store(RECORDS).all()]
    here = {**processor(), "threads": torch.get_num_threads()}
    return {s.key: estimate_seconds(s, records, here, start=IMPORTED) for s in specs}


def _shown(folder: Path) -> str:
    folder = folder.resolve()
    return str(folder.relative_to(Path.cwd())) if folder.is_relative_to(Path.cwd()) else str(folder)
