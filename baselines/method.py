"""What a contestant is: a frozen dataclass whose fields are its hyperparameters, and the verbs the harness calls.

`attach` is the one verb it must have; the harness never asks which method it holds. A new contestant is one new file in
`methods/` that defines a subclass of `Method` with a `name`; nothing else needs an edit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar

import torch
from pydantic.dataclasses import dataclass

from baselines.fields import CHECKED
from baselines.sizes import Shapes
from smoe import Probe

Attached = Any  # a PeftModel, or the model itself where nothing is added; torch's own type hides their attributes


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Method(ABC):
    """One way to fine-tune. Fields of a subclass are its hyperparameters; their comments document them."""

    name: ClassVar[str]  # as on the command line
    summary: ClassVar[str]  # one line for --list
    source: ClassVar[str]  # paper or library
    departures: ClassVar[str] = ""  # from its source, for --list; nothing where there is none or the docstring has them
    trains: ClassVar[bool] = True  # whether anything is trained at all; without it seeds and rates change nothing
    trains_base: ClassVar[bool] = False  # whether the model's own weights are trained, and not an adapter
    rate: ClassVar[float] = 5e-4  # peak learning rate of a run that names none
    grid_factor: ClassVar[float] = 1.0  # its grid of learning rates is this times that of an adapter
    least_experts: ClassVar[int] = 1  # a block, where its number is a hyperparameter
    keeps_its_size: ClassVar[bool] = False  # whether it stands at its own size where --match params is out of its reach
    # Groups of hyperparameters of which one is set: on a command line, naming one takes the default of the others back.
    one_of: ClassVar[tuple[tuple[str, ...], ...]] = ()
    # Hyperparameters that came later or that a preset seldom has: at their default a spec and its key leave them out.
    later: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:  # noqa: B027  # most methods have fields that go together in any way
        """Raise ValueError for values that do not go together; what a field alone may be stands on the field.

        One's own calls that of the base class.
        """

    def check(self, model: torch.nn.Module, tasks: Sequence[str], total_steps: int) -> None:  # noqa: B027
        """Raise ValueError where this model, these tasks or so few steps make what was asked impossible.

        model: the base without weights (on the "meta" device). Called before any job starts; what the values alone
        tell is refused when the method is made.
        """

    def for_tasks(self, tasks: Sequence[str], shapes: Callable[[], Shapes]) -> Method:
        """Return the same method, with whatever has to be another where only `tasks` are trained together.

        shapes: gives (in, out) of the blocks that it trains, where they are needed.
        """
        return self

    @property
    def starts_at_base(self) -> bool:
        """Whether the attached model answers as the base does before anything is trained."""
        return True

    @property
    def told_tasks(self) -> bool:
        """Whether it has to be told each sample's task, in evaluation too (`enter_tasks` of the attached model)."""
        return False

    @property
    def search_over(self) -> float:
        """Epochs of training batches that `search` looks at before anything is attached; 0: it is not called."""
        return 0.0

    def search(self, model: torch.nn.Module, batches: Iterable[Mapping[str, torch.Tensor]]) -> None:  # noqa: B027
        """Find out on training batches what to attach, and leave it on `model` for `attach`; charged to `allocate`.

        batches: "input_ids", "attention_mask", "labels", (B, S) each, `search_over` epochs in a training's order.
        """

    @classmethod
    def grid(cls, rates: Sequence[float], peak: float) -> list[float]:
        """Return the rates that `--tuned` tries. rates: those of an adapter; peak: that of the run without tuning."""
        return [float(f"{cls.grid_factor * rate:.6g}") for rate in rates]

    def hyperparameters(self) -> dict[str, Any]:
        """Return the hyperparameters that a spec holds, of which another of this class can be made."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: v for name, v in values.items() if name not in self.later or v != getattr(type(self), name)}

    @abstractmethod
    def attach(self, model: torch.nn.Module, probe: Probe, total_steps: int) -> Attached:
        """Make the frozen `model` trainable and return it (a PeftModel; the model itself where nothing is added).

        probe: calibration samples, a few training batches per task ("input_ids", "attention_mask", "labels", each
        (B, S), -100 off the answer); only allocators read it. total_steps: optimiser steps to come, at
        least 1. Everything random is drawn from torch's global generator, which the harness has seeded.
        """

    def penalty(self, model: Attached) -> torch.Tensor | None:
        """Return a scalar to add to the loss of the forward pass just made (e.g. router balance), or None."""
        return None

    def regularizer(self, model: Attached) -> torch.Tensor | None:
        """Return a scalar of the weights alone to add to the loss, asked for once a step, or None."""
        return None

    def after_step(self, model: Attached, step: int) -> None:  # noqa: B027  # most methods do nothing here
        """Act after `optimizer.step()` and before `zero_grad()`; steps count from 1."""

    def facts(self, model: Attached) -> dict[str, Any]:
        """JSON-ready facts for the record, called after evaluation.

        Known keys: "experts" {block: number}, "ranks" {block: rank at the end}, "sensitivity" {task: {block: score}},
        "parameters" {"experts", "router", "active_per_token", "after_pruning": count}.
        """
        return {}

    def matched(self, target_params: int, shapes: Shapes) -> Method:
        """Return the same method, sized so that `matched_params` comes to within 2% of `target_params`.

        shapes: every linear block of the model but the head. Itself where there is no size to choose; a contestant
        that has one and does not say here how is refused by `--match params` unless it meets the target as it is.
        Raises ValueError naming the nearest possible size.
        """
        return self

    def matched_experts(self, total: int, shapes: Shapes) -> Method:
        """Return the same method with `total` experts over all blocks; itself without experts. Raises ValueError."""
        return self

    def matched_params(self, model: Attached) -> int:
        """Trainable parameters that `--match params` compares: of the model just attached."""
        return sum(p.numel() for p in model.parameters() if p.requires_grad)

    def router_diagnostics(self, model: Attached, probe: Probe) -> dict[str, Any]:
        """Return JSON-ready facts that only a run of the trained model shows, on the batches `attach` was given.

        Known keys: "router" {task: {block: {"load", "entropy", "dead"}}}.
        """
        return {}
