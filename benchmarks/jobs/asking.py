"""A study's command: say what is asked and what it costs, run what is not finished, let the reports answer."""

from __future__ import annotations

import contextlib
import gc
import io
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.data import prepared
from benchmarks.jobs import session
from benchmarks.jobs.child import attempt
from benchmarks.jobs.executors import ROOT
from benchmarks.plan.questions import SIZES, Question, planned
from results import RunSpec
from results.store import SCRATCH, Store, folder_path
from results.studies.study import STUDIES, Study


def app(question: Question, longer: Question | None = None) -> typer.Typer:
    """Return the command line of a study. longer: its long form, asked for by `--long`."""
    made = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    shown = typer.Option(False, "--long", help="The long form.", hidden=longer is None)

    @made.command(help=question.question)
    @prepared.folder()
    def main(
        size: Annotated[str, typer.Option(help=f"{' | '.join(SIZES)}; tiny shows that it works.")] = "small",
        model: Annotated[str | None, typer.Option(help="As in benchmarks.run. [the size's]")] = None,
        suite: Annotated[str | None, typer.Option(help="As in benchmarks.run, all its tasks. [the size's]")] = None,
        seeds: Annotated[str | None, typer.Option(help="0,1,2 or 0-4. [the size's]")] = None,
        limit: Annotated[int | None, typer.Option(help="Evaluation documents a task. [the size's]")] = None,
        device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
        out: Annotated[Path | None, typer.Option(parser=folder_path, help="Folder. [results/scratch/studies]")] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is asked and what it costs.")] = False,
        long: bool = shown,
    ) -> None:
        with session.refusals():
            asked = longer if long else question
            if asked is None:
                raise ValueError(f"study {question.name} has no long form; leave out --long")
            study, specs = planned(asked, size, model=model, suite=suite, seeds=seeds, limit=limit, device=device)
            folder = out or SCRATCH / "studies" / f"{study.name}-{size}"
            store = Store(folder)
            say(study, specs, store)
            if dry_run:
                return
            store.check_writable()
            session.preflight(specs)
            study.save(folder)
        failed = run_here(specs, store) if SIZES[size].in_process else session.run(specs, store)
        answered = answer(folder)
        raise typer.Exit(1 if failed or not answered else 0)

    return made


def say(study: Study, specs: Sequence[RunSpec], store: Store) -> None:
    """Print the question, the design, what counts as an answer, and the hours that are left, from measured speeds."""
    tell(study.question, study.design, study.yes, study.no, study.undecided)
    left = [spec for spec in specs if store.find(spec) is None]
    known = [s for s in session.estimates(left, store.all()).values() if s is not None]
    cost = f"about {sum(known) / 3600:.2f} hours for {len(known)} of them" if known else "not known: none was measured"
    _print(f"Jobs: {len(specs)}, of which {len(left)} are left; cost: {cost}")


def tell(question: str, design: str, yes: str, no: str, undecided: str) -> None:
    """Print what is asked and what would answer it."""
    rows = {"Question": question, "Design": design, "Yes": yes, "No": no, "Undecided": undecided}
    for name, text in rows.items():
        _print(f"{name}: {text}")


def _print(text: str) -> None:
    Console(width=120).print(text, highlight=False, markup=False)


def run_here(specs: Sequence[RunSpec], store: Store) -> int:
    """Run what is not finished in this process, where memory and time mean nothing. Returns the failed jobs.

    What libraries print is left out; why a job failed is in its record.
    """
    failed = 0
    gc.freeze()  # what was imported need not be looked through before every phase
    for number, spec in enumerate(specs, start=1):
        if store.find(spec) is None:
            print(f"{number} of {len(specs)}: {spec.key}", flush=True)
            with contextlib.redirect_stderr(noise := io.StringIO()), contextlib.redirect_stdout(noise):
                record = attempt(spec)
            store.save(record)
            if record.status == "failed":
                failed += 1
                print(record.error, file=sys.stderr)
    return failed


def answer(folder: Path) -> bool:
    """Let the reports answer, by their own command; False where that failed."""
    committed = folder.resolve().parent == STUDIES
    place = ROOT / "reports" / "out" / "studies" / folder.name if committed else folder / "report"
    command = [sys.executable, "-m", "reports", "study", str(folder.resolve()), "--out", str(place)]
    return subprocess.run(command, cwd=ROOT).returncode == 0
