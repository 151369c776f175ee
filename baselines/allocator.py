"""Who hands out capacity: an importance says what is measured of a block, a spender turns it into experts or ranks.

Two allocators with one spender differ in where capacity goes and in nothing else.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass

from baselines.budgets import Unit, reversed_scores, shuffled, spend
from baselines.fields import CHECKED, NotNegative
from baselines.importance import Importance, Measured, Rule, importance
from baselines.method import Method
from baselines.sizes import Shapes, own_shapes
from smoe import Budget, Probe, block_shapes, find_blocks, grouped
from smoe.allocation import Grouping

Facts = dict[str, Any]
Order = Literal["own", "reversed", "shuffled"]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Allocator(Method):
    """A method whose capacity is placed unevenly, under a budget; `Experts` and `Ranks` say what is handed out."""

    needs_budget: ClassVar[bool] = True  # False: without one the method has numbers of its own
    budget_fields: ClassVar[tuple[str, ...]]  # of which one is set: units a block, units in all, parameters
    later: ClassVar[frozenset[str]] = Method.later | {
        "importance", "rule", "grouping", "order", "allocation_seed", "beta",
    }  # fmt: skip

    importance: str = "sensitivity"  # what is measured of a block, a name of baselines/importance
    rule: Rule | None = None  # how that becomes numbers; none: the importance's own
    grouping: Grouping = "attention-mlp"  # blocks ranked against each other
    order: Order = "own"  # controls: reversed ranking, or its numbers shuffled over the blocks
    allocation_seed: NotNegative[int] | None = None  # of what is drawn; none: drawn with the run's seed
    beta: NotNegative[float] | None = None  # power that importances are raised to; none: the importance's own
    target_modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            importance(self.importance_name)
            if self.needs_budget or self.has_budget:
                self.budget  # noqa: B018  # made to be checked
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error

    @property
    def importance_name(self) -> str:
        """The importance, which a preset may choose by a field of its own."""
        return self.importance

    @property
    def how(self) -> Importance:
        """What is measured."""
        return importance(self.importance_name)

    @property
    @abstractmethod
    def budget(self) -> Budget:
        """What may be given out."""

    @property
    @abstractmethod
    def unit(self) -> Unit:
        """What is given out one at a time."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[int, int | None]:
        """Fewest and most units of a block that takes part; None: any number."""

    @property
    @abstractmethod
    def most(self) -> int:
        """Return units of a block that an importance with components has to look at."""

    @property
    def has_budget(self) -> bool:
        return any(getattr(self, name) is not None for name in self.budget_fields)

    def check(self, model: torch.nn.Module, tasks: Sequence[str], total_steps: int) -> None:
        super().check(model, tasks, total_steps)
        if len(tasks) < self.how.least_tasks:
            raise ValueError(
                f"{self.name}: importance {self.importance_name} compares tasks and needs {self.how.least_tasks} that "
                f"are trained together, here {len(tasks)}"
            )
        shapes = block_shapes(model, self.target_modules)
        try:  # whether a budget can be met does not depend on the measure
            self._spent(self.how.outline(shapes, tasks, self.most), shapes)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}{self.budget_hint(error, tasks)}") from error

    def budget_hint(self, error: ValueError, tasks: Sequence[str]) -> str:
        """Say what to ask for instead of a budget that cannot be met, where that is known."""
        return ""

    def allocate(self, model: torch.nn.Module, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        """Return the units of every block of the frozen `model`, and JSON-ready facts on how they came about."""
        blocks = find_blocks(model, self.target_modules)
        measured = self.how.measure(model, blocks, probe, self.most, self.allocation_seed)
        return self.placed(measured, block_shapes(model, self.target_modules))

    def placed(self, measured: Measured, shapes: Shapes) -> tuple[Mapping[str, int], Facts]:
        """Return the units of every block from its measure, and the facts."""
        units = self._spent(self._ordered(measured), shapes)
        if self.order == "shuffled":
            inside = [b for members in grouped(list(units), self.grouping).values() for b in members]
            target = self.budget.trainable_params
            units = shuffled(units, inside, shapes, self.unit.price, target, self.allocation_seed)
        return units, dict(measured.facts)

    def _ordered(self, measured: Measured) -> Measured:
        """Return the measure with its ranking reversed, where that was asked for."""
        if self.order != "reversed":
            return measured
        return Measured({task: reversed_scores(by_block) for task, by_block in measured.scores.items()})

    def _spent(self, measured: Measured, shapes: Shapes) -> dict[str, int]:
        return self.spent_as(measured, shapes, self.budget, self.unit, self.bounds)

    def spent_as(
        self, measured: Measured, shapes: Shapes, budget: Budget, unit: Unit, bounds: tuple[int, int | None]
    ) -> dict[str, int]:
        """Return units per block under the method's rule. Raises BudgetError."""
        beta = self.how.beta if self.beta is None else self.beta
        low, cap = bounds
        return spend(
            measured, self.rule_name, budget, shapes, unit, grouping=self.grouping, low=low, cap=cap, beta=beta
        )

    @property
    def rule_name(self) -> Rule:
        """How the importance becomes numbers."""
        return self.rule or self.how.rule

    def blocks_inside(self, shapes: Shapes) -> tuple[Shapes, list[str]]:
        """Return the blocks that the method targets, and those of them that its grouping lets take part."""
        targets = own_shapes(shapes, self.target_modules)
        return targets, [b for members in grouped(list(targets), self.grouping).values() for b in members]

    def leave_budget_to_match(self) -> None:
        """Raise ValueError for a budget of one's own, which would be overruled without a word."""
        for name in self.budget_fields:
            if (asked := getattr(self, name)) != getattr(type(self), name):
                raise ValueError(f"{self.name}: --match sets the budget; leave it out, or {name}={asked}")
