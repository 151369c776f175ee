"""A session of jobs: what must be there before the first, the jobs themselves, and the report after the last.

Commands share it: `benchmarks.run` and the studies that train.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import registry
from benchmarks.data import batches, examples
from benchmarks.data.protocols import protocol
from benchmarks.jobs.display import Display
from benchmarks.jobs.executors import ROOT, LocalProcesses, interruptible
from benchmarks.models import assets
from benchmarks.models import load as models
from benchmarks.plan import tune
from benchmarks.plan.estimate import estimate_seconds
from results import Record, RunSpec
from results.store import RECORDS, Store


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


def preflight(specs: Sequence[RunSpec]) -> None:
    """Fail now, not in the middle of the night: model and data are there and intact, and suit what was asked of them.

    Raises ValueError or AssetError.
    """
    for model in {s.model for s in specs}:
        if models.needs_embedded(model):
            if not assets.is_converted():
                print("converting the embedded model to safetensors, once ...", flush=True)
            assets.embedded_model()
    sizes: dict[tuple, dict[str, int]] = {}  # of what several specs share, read once
    skeletons = {name: models.skeleton(name, trust) for name, trust in {(s.model, s.trust_remote_code) for s in specs}}
    for spec in specs:
        asked = (spec.source, spec.tasks, spec.split, spec.train_documents)
        if asked not in sizes:
            sizes[asked] = protocol(spec.protocol).sizes(spec)
        counts = examples.shares(sizes[asked], spec.train_documents, spec.task_shares)
        method = registry.methods()[spec.method](**spec.hyperparameters)
        documents = sum(counts[task] for task in spec.trained_tasks)
        steps = batches.num_optimizer_steps(documents, spec.batch_size, spec.epochs)
        method.check(skeletons[spec.model], spec.trained_tasks, steps)


def run(specs: Sequence[RunSpec], store: Store) -> int:
    """Run what is not finished. Returns the number of failed jobs; raises SystemExit where it had to stop."""
    for spec in specs:
        store.quarantine(spec.key)  # what is there and no record would be overwritten
    display = Display(specs, {s.key for s in specs if store.find(s)}, _estimates(specs, store.all()))
    failed = 0
    try:
        with interruptible(), display:
            for record in LocalProcesses(store).run(specs, display.started):
                display.ended(record)
                failed += record.status == "failed"
    except KeyboardInterrupt as interrupt:
        display.console.print(f"stopped; finished records are kept in {_shown(store.folder)}, the same command goes on")
        raise SystemExit(143 if interrupt.args else 130) from None
    except OSError as error:  # a full disk, a folder taken away
        display.console.print(f"stopped: {error}; finished records are kept in {_shown(store.folder)}", style="red")
        raise SystemExit(1) from None
    for path, reason in store.set_aside:
        display.console.print(f"set aside: {path.name} ({reason}); its job was run again")
    return failed


def print_plan(specs: Sequence[RunSpec], grids: Mapping[str, Sequence[RunSpec]], store: Store) -> None:
    """Print the jobs as JSON: those of the grids first; key and rate are null where a grid has yet to decide."""
    ready, undecided = tune.apply_best_rates(specs, grids, store.find)
    jobs = [{"key": s.key, **s.to_json()} for s in [*(job for jobs in grids.values() for job in jobs), *ready]]
    print(json.dumps([*jobs, *({**s.to_json(), "key": None, "learning_rate": None} for s in undecided)], indent=1))


def report(specs: Sequence[RunSpec], store: Store) -> bool:
    """Print the table and draw the report by the reports' own commands, which need records alone; False: one failed."""
    here, folder = [sys.executable, "-m"], store.folder.resolve()
    if not specs[0].scored:
        laws = ["reports", "cost", "--records", str(folder), "--out", str(folder / "laws")]
        return subprocess.run([*here, *laws], cwd=ROOT).returncode == 0
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


def _estimates(specs: Sequence[RunSpec], finished: Sequence[Record]) -> dict[str, float | None]:
    records = finished or Store(RECORDS).all()
    return {s.key: estimate_seconds(s, records) for s in specs}


def _shown(folder: Path) -> str:
    folder = folder.resolve()
    return str(folder.relative_to(Path.cwd())) if folder.is_relative_to(Path.cwd()) else str(folder)
