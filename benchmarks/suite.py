"""What a suite is. Its meaning never changes; a new meaning gets a new name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DEFINITIONS = Path(__file__).parent / "data" / "definitions"  # of tasks, in lm-eval's form
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
