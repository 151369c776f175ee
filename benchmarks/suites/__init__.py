"""The suites, one file each; found by this folder (see `benchmarks.registry`). Here stands what a suite is.

What would move its numbers raises its version, which is in every key.

History of the versions, of all suites
    none    records of schema 1: HellaSwag cut by context and BoolQ by exact passage, evaluation documents in the order
            of their fingerprints, optimiser steps of documents of similar length, a first step at a rate of 0
    2       HellaSwag cut by source too and BoolQ by near-duplicate passages, evaluation documents in a stratified
            order, optimiser steps drawn at random from the mixture, every step at a rate above 0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

VERSION = "2"
DEFINITIONS = Path(__file__).parents[1] / "data" / "definitions"  # of tasks, in lm-eval's form
PROTOCOLS = DEFINITIONS / "protocols"  # a folder for each protocol with tasks of its own, a file a task


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A named set of lm-eval tasks that are trained on together and scored one by one."""

    name: str
    summary: str  # one line for --list
    tasks: tuple[str, ...]  # lm-eval's own task names, in the order of the tables
    headline: Mapping[str, str]  # task -> the metric in the tables: "acc_norm" where the task reports it, else "acc"
    protocol: str = "loglik"  # of lm-eval's own tasks; see `protocols` for the others
    task_shares: str = "equal"  # of each task in training
    train_documents: int | None = None  # where a run asks for none; None: the profile's
    limit: int | None = None  # of evaluation, likewise
    version: str = VERSION  # raised by whatever changes its documents, their order, its prompts, metrics or training

    def __post_init__(self) -> None:
        if set(self.headline) != set(self.tasks):
            raise ValueError(f"suite {self.name}: headline metrics and tasks differ")

    @property
    def protocols(self) -> tuple[str, ...]:
        """Its own protocol, then every one whose folder defines all of its tasks."""
        folders = sorted(folder for folder in PROTOCOLS.iterdir() if folder.is_dir())
        return (self.protocol, *(f.name for f in folders if all((f / f"{t}.yaml").is_file() for t in self.tasks)))

    def metrics(self, protocol: str) -> Mapping[str, str]:
        """Task -> the metric in the tables; what a protocol's folder defines is scored by exact match."""
        return self.headline if protocol == self.protocol else dict.fromkeys(self.tasks, "exact_match")
