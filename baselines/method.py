"""What a contestant is: a frozen dataclass whose fields are its hyperparameters, and four verbs.

The harness calls these and never asks which method it holds. A new contestant is one new file in this folder that
defines one subclass of `Method` with a `name`; nothing else needs an edit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

# Tokenised training batches of each task: {"input_ids", "attention_mask", "labels"}, each (B, S); labels are -100
# everywhere but on the answer.
Probe = Mapping[str, Sequence[Mapping[str, torch.Tensor]]]

Attached = Any  # a PeftModel, or the model itself where nothing is added; torch's own type hides their attributes
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # of a Llama-style layer


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """One way to fine-tune. Fields of a subclass are its hyperparameters; their comments document them."""

    name: ClassVar[str]  # as on the command line
    summary: ClassVar[str]  # one line for --list
    source: ClassVar[str]  # paper or library

    @abstractmethod
    def attach(self, model: torch.nn.Module, probe: Probe, total_steps: int) -> Attached:
        """Make the frozen `model` trainable and return it (a PeftModel; the model itself where nothing is added).

        probe: a few training batches per task; only allocators read it. total_steps: optimiser steps to come, at
        least 1. Everything random is drawn from torch's global generator, which the harness has seeded.
        """

    def penalty(self, model: Attached) -> torch.Tensor | None:
        """A scalar to add to the loss of the forward pass just made (e.g. router balance), or None."""
        return None

    def after_step(self, model: Attached, step: int) -> None:  # noqa: B027  # most methods do nothing here
        """Called after `optimizer.step()` and before `zero_grad()`; steps count from 1."""

    def facts(self, model: Attached) -> dict[str, Any]:
        """JSON-ready facts for the record, called after evaluation.

        Known keys: "experts" {block: number}, "ranks" {block: rank at the end}, "sensitivity" {task: {block: score}},
        "parameters" {"experts", "router", "active_per_token", "after_pruning": count}.
        """
        return {}
