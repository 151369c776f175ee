"""What the bytes of tensors are for while a model trains: every storage from its birth to its death.

Operators are listened to one by one, so that a storage is known by the operator that made it; what is kept for the
backward pass is known by autograd's own hooks, gradients and optimiser state by those of their owners. What kernels use
for themselves, and what lies between blocks in the heap, no operator shows.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WEIGHTS = "weights"
OPTIMIZER = "optimiser state"
GRADIENTS = "gradients"
ATTENTION = "attention probabilities"
LOGITS = "logits and loss"
CASTS = "kept: float32 copies"
KEPT = "kept: other activations"
LASTING = "lasting from step to step"
TEMPORARY = "inputs and temporaries"
PARTS = (WEIGHTS, OPTIMIZER, GRADIENTS, ATTENTION, LOGITS, CASTS, KEPT, LASTING, TEMPORARY)
_FOLLOWED = {"_to_copy", "native_dropout", "mul", "clone"}  # what these make of attention probabilities is such, too


@dataclass
class _Entry:
    """One storage. Times count births, deaths and marks."""

    size: int
    born: int
    kind: str | None = None  # of PARTS, where the operator that made it says so
    kept: int | None = None  # since when it is kept for the backward pass
    gradient: int | None = None
    state: bool = False  # of the optimiser
    died: int | None = None


@dataclass
class Ledger(TorchDispatchMode):
    """Listen as `with ledger.listening():`; call `end_step` after every step, then ask for the `peak`.

    vocabulary: what has a dimension of it is logits or made of logits.
    """

    model: torch.nn.Module
    vocabulary: int
    _entries: list[_Entry] = field(default_factory=list)
    _alive: dict[int, _Entry] = field(default_factory=dict)  # by address of the storage
    _clock: int = 0
    _steps: list[int] = field(default_factory=list)  # when each ended

    def __post_init__(self) -> None:
        super().__init__()
        self._device = next(self.model.parameters()).device.type

    @contextlib.contextmanager
    def listening(self) -> Iterator[Ledger]:
        """Listen to the operators, to autograd, to every parameter's gradient and to optimisers."""
        with contextlib.ExitStack() as stack:
            for tensor in (*self.model.parameters(), *self.model.buffers()):
                if (entry := self._entry(tensor)) is not None:
                    entry.kind = WEIGHTS
            for parameter in self.model.parameters():
                if parameter.requires_grad:
                    handle = parameter.register_post_accumulate_grad_hook(self._note_gradient)
                    stack.callback(handle.remove)
            stack.callback(register_optimizer_step_post_hook(self._note_state).remove)
            stack.enter_context(torch.autograd.graph.saved_tensors_hooks(self._note_kept, lambda tensor: tensor))
            stack.enter_context(self)
            yield self

    def end_step(self, *_: object, **__: object) -> None:
        """Say that a step is over: what is still alive was not made for it alone."""
        self._steps.append(self._tick())

    def peak(self) -> dict[str, int]:
        """Return the bytes of each of `PARTS` when most bytes were alive; their sum is all that was alive."""
        changes = sorted(
            [(e.born, e.size) for e in self._entries] + [(e.died, -e.size) for e in self._entries if e.died is not None]
        )
        live, most, when = 0, -1, 0
        for time, change in changes:
            live += change
            if live > most:
                most, when = live, time
        return self._parts(when)

    def _parts(self, when: int) -> dict[str, int]:
        parts = dict.fromkeys(PARTS, 0)
        started = max((time for time in self._steps if time <= when), default=-1)
        for entry in self._entries:
            if entry.born <= when and (entry.died is None or entry.died > when):
                parts[_part(entry, when, started)] += entry.size
        return parts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = [t for t in tree_leaves((args, kwargs or {})) if isinstance(t, torch.Tensor)]
        for tensor in inputs:
            self._entry(tensor)
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._entry(tensor, partial(self._kind, name, tensor, inputs))
        return out

    def _kind(self, name: str, out: torch.Tensor, inputs: list[torch.Tensor]) -> str | None:
        """Say what a new storage is, by the operator that made it."""
        if name == "_softmax" and out.ndim == 4:
            return ATTENTION
        made_of = [entry for t in inputs if (entry := self._entry(t)) is not None and t.numel() == out.numel()]
        if name in _FOLLOWED and any(entry.kind == ATTENTION for entry in made_of):
            return ATTENTION
        if out.is_floating_point() and out.ndim > 1 and self.vocabulary in out.shape:
            return LOGITS
        narrow = any(t.is_floating_point() and t.element_size() < 4 and t.numel() == out.numel() for t in inputs)
        return CASTS if name == "_to_copy" and out.dtype == torch.float32 and narrow else None

    def _entry(self, tensor: torch.Tensor, kind: Callable[[], str | None] = lambda: None) -> _Entry | None:
        """Return what is known of a tensor's storage, which is new where it is not known; None: of another device."""
        if tensor.device.type != self._device or tensor.layout != torch.strided:
            return None
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address not in self._alive:
            entry = _Entry(storage.nbytes(), self._tick(), kind())
            self._entries.append(entry)
            self._alive[address] = entry
            weakref.finalize(storage, self._bury, address).atexit = False
        return self._alive[address]

    def _bury(self, address: int) -> None:
        self._alive.pop(address).died = self._tick()

    def _note_kept(self, tensor: torch.Tensor) -> torch.Tensor:
        entry = self._entry(tensor)
        if entry is not None and entry.kept is None:
            entry.kept = self._tick()
        return tensor

    def _note_gradient(self, parameter: torch.Tensor) -> None:
        entry = None if parameter.grad is None else self._entry(parameter.grad)
        if entry is not None and entry.gradient is None:
            entry.gradient = self._tick()

    def _note_state(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        for tensor in tree_leaves([dict(state) for state in optimizer.state.values()]):
            if isinstance(tensor, torch.Tensor) and (entry := self._entry(tensor)) is not None:
                entry.state = True

    def _tick(self) -> int:
        self._clock += 1
        return self._clock


def _part(entry: _Entry, when: int, started: int) -> str:
    """Say what a storage was for at a time within the step that started then."""
    if entry.kind == WEIGHTS:
        return WEIGHTS
    if entry.state:
        return OPTIMIZER
    if entry.gradient is not None and entry.gradient <= when:
        return GRADIENTS
    if entry.kind in (ATTENTION, LOGITS):
        return entry.kind
    if entry.kept is not None and entry.kept <= when:
        return CASTS if entry.kind == CASTS else KEPT
    return LASTING if entry.born < started else TEMPORARY
