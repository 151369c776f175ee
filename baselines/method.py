"""What a contestant is: a frozen dataclass whose fields are its hyperparameters, and the verbs the harness calls.

`attach` is the one verb it must have; the harness never asks which method it holds. A new contestant is one new file in
`methods/` that defines a subclass of `Method` with a `name`; nothing else needs an edit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
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
    trains: ClassVar[bool] = True  # whether anything is trained at all; without it seeds and rates change nothing
    trains_base: ClassVar[bool] = False  # whether the model's own weights are trained, and not an adapter
    rate_factor: ClassVar[float] = 1.0  # its grid of learning rates is this times that of an adapter
    # Groups of hyperparameters of which one is set: on a command line, naming one takes the default of the others back.
    one_of: ClassVar[tuple[tuple[str, ...], ...]] = ()

    def __post_init__(self) -> None:  # noqa: B027  # most methods have fields that go together in any way
        """Raise ValueError for values that do not go together; what a field alone may be stands on the field.

        One's own calls that of the base class.
        """

    def check(self, model: torch.nn.Module, tasks: Sequence[str], total_steps: int) -> None:  # noqa: B027
        """Raise ValueError where this model, these tasks or so few steps make what was asked impossible.

        model: the base without weights (on the "meta" device). Called before any job starts; what the values alone
        tell is refused when the method is made.
        """

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
