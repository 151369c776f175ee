"""Trackers of experiments through accelerate's own classes: one run for each job, named by its key."""

from __future__ import annotations

import contextlib
import importlib.util
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from results import Record, RunSpec
from results.names import pick

TRACKERS = {"trackio": ("trackio",), "wandb": ("wandb",), "tensorboard": ("tensorboard", "tensorboardX")}
PROJECT = "smoe-bench"


def check(name: str) -> None:
    """Raise ValueError for a tracker that is not known or whose package is not installed."""
    packages = pick("tracker", name, TRACKERS)
    if not any(importlib.util.find_spec(package) for package in packages):
        raise ValueError(
            f"--tracker {name} needs the package {packages[0]}, which is not installed: pip install {packages[0]}, "
            "or leave --tracker out and read the logs beside the records (python -m benchmarks.status)"
        )


class Tracker:
    """One job's run at a tracker. What goes wrong there is printed into the job's log and stops no job."""

    def __init__(self, name: str, spec: RunSpec, folder: Path):
        self._failed = False
        with self._guarded():
            self._run = _open(name, spec.key, folder)
            self._run.start()
            self._run.store_init_configuration(_flat(spec.to_json()))

    def step(self, step: int, facts: dict[str, Any]) -> None:
        """Send what is known of a training step."""
        values = {k: v for k, v in facts.items() if v is not None}
        with self._guarded():
            self._run.log(values, step=step)

    def end(self, record: Record) -> None:
        """Send each task's score and close the run."""
        with self._guarded():
            values = {f"score/{task}": score.value for task, score in (record.scores or {}).items()}
            self._run.log({**values, "done": int(record.status == "done")}, step=len(record.losses or ()) + 1)
            self._run.finish()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        if not self._failed:
            try:
                yield
                return
            except Exception:  # a tracker's server, disk or package must not cost a job
                traceback.print_exc()
                self._failed = True
                return
        with contextlib.suppress(Exception):
            yield


def _open(name: str, key: str, folder: Path) -> Any:
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()  # which accelerate's own logging asks for
    if name == "tensorboard":
        return LOGGER_TYPE_TO_CLASS[name](key, logging_dir=str(folder / "tensorboard"))
    return LOGGER_TYPE_TO_CLASS[name](PROJECT, name=key)


def _flat(spec: dict[str, Any]) -> dict[str, Any]:
    """Return values that every tracker takes as hyperparameters: numbers and texts."""
    return {k: v if isinstance(v, int | float | str) else str(v) for k, v in spec.items() if v is not None}
