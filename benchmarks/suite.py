"""What a suite is. Its meaning never changes; a new meaning gets a new name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A named set of lm-eval tasks that are trained on together and scored one by one."""

    name: str
    summary: str  # one line for --list
    tasks: tuple[str, ...]  # lm-eval's own task names, in the order of the tables
    headline: Mapping[str, str]  # task -> the metric in the tables: "acc_norm" where the task reports it, else "acc"
    protocol: str = "loglik"
    mixture: str = "equal"  # share of each task in training

    def __post_init__(self) -> None:
        if set(self.headline) != set(self.tasks):
            raise ValueError(f"suite {self.name}: headline metrics and tasks differ")
