"""What is measured of a block, one file each, found by this folder; a spender turns it into experts or ranks.

A new importance is a file here with a subclass of `Importance`; it works at once as `experts:importance=NAME` and
`ranks:importance=NAME`, and the contract tests are run on whatever the folder holds.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Literal, TypeVar

import torch

from baselines.sizes import Shapes
from smoe import Probe, place
from smoe.found import found, pick

Rule = Literal["votes", "proportional", "greedy", "layers"]  # see baselines/budgets.py
Scores = Mapping[str, Mapping[str, float]]  # task -> block -> importance, finite, from 0
Number = TypeVar("Number", int, float)
EVERY = "all tasks"  # the task of an importance that reads no data, where there is none


@dataclass(frozen=True)
class Measured:
    """The importance of every block for every task, and what goes on record of how it came about."""

    scores: Scores
    facts: Mapping[str, Any] = field(default_factory=dict)  # JSON-ready
    components: Mapping[str, Sequence[float]] | None = None  # block -> importance of its 1st, 2nd ... unit, falling


class Importance(ABC):
    """One way to say how much a block matters. Instances hold nothing."""

    name: ClassVar[str]
    summary: ClassVar[str]  # one line
    source: ClassVar[str]
    rule: ClassVar[Rule] = "votes"  # how it is spent where nothing else is asked for
    beta: ClassVar[float] = 1.0  # power that it is raised to before it is spent
    least_tasks: ClassVar[int] = 1  # that it can be measured on

    @abstractmethod
    def measure(
        self, model: torch.nn.Module, blocks: Mapping[str, torch.nn.Module], probe: Probe, most: int, seed: int | None
    ) -> Measured:
        """Measure the frozen `model`, which is as it was afterwards.

        blocks: those that take part; probe: calibration samples by task; most: units that a block may get; seed: of
        what is drawn, None: from torch's global generator. Without a draw that generator is left alone. Raises
        ValueError where it cannot be measured.
        """

    def outline(self, shapes: Shapes, tasks: Sequence[str], most: int) -> Measured:
        """Return what could be measured at best, without a model: whether a budget can be met does not depend on it."""
        return Measured(same_for_all(dict.fromkeys(shapes, 1.0), tasks))


def same_for_all(by_block: Mapping[str, float], tasks: Sequence[str] | Probe) -> Scores:
    """Give every task the same importance of each block; where there is no task, one stands for all."""
    return dict.fromkeys(tasks, by_block) or {EVERY: by_block}


def layers_of(blocks: Iterable[str]) -> dict[int, list[str]]:
    """Sort blocks by layer. Raises ValueError for a block outside the layers."""
    layers: dict[int, list[str]] = {}
    for block in blocks:
        layer, _ = place(block)
        if layer is None:
            raise ValueError(f"{block} has no layer number in its name")
        layers.setdefault(layer, []).append(block)
    return dict(sorted(layers.items()))


def same_in_a_layer(per_layer: Mapping[int, Number], blocks: Iterable[str]) -> dict[str, Number]:
    """Give every block the number of its layer; blocks keep their order."""
    blocks = list(blocks)
    layer_of = {block: layer for layer, names in layers_of(blocks).items() for block in names}
    return {block: per_layer[layer_of[block]] for block in blocks}


@cache
def importances() -> dict[str, type[Importance]]:
    """Return every importance by name."""
    return found(sys.modules[__name__], Importance)  # type: ignore[type-abstract]


def importance(name: str) -> Importance:
    """Return the importance of that name. Raises ValueError with the nearest names."""
    return pick("importance", name, importances())()
