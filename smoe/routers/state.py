"""What the routers of one model share during a pass: who listens, each sample's task, and a change under test."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch


class Routed(NamedTuple):
    """What a router made of a block's tokens."""

    probabilities: torch.Tensor  # (..., E), before any choice
    gates: torch.Tensor  # (..., E)
    margins: torch.Tensor | None = None  # (..., E), what an expert has to be above 0 in to be used, where there is such


@dataclass(frozen=True)
class Own:
    """What one block's router has beside its rows."""

    x: torch.Tensor  # (..., I), the block's input before dropout
    adapter: str
    numbers: torch.Tensor | None = None  # (n,) trained, of the block or of all blocks of one input width
    bias: torch.Tensor | None = None  # (E,) set while training, not trained


class RoutingState:
    """One for all layers of a model."""

    def __init__(self) -> None:
        self.active = False
        self.external = False  # smoe.diagnostics reads and stops it, after the balance loss has read
        self.seen: dict[tuple[str, str], list[Routed]] = {}  # see `note`
        self.used: dict[tuple[str, str], torch.Tensor] = {}  # (E,) tokens that used each expert since `take_used`
        self.tasks: torch.Tensor | None = None  # (B,) `task_id` of each sample; None: not told
        self.change: Callable[[torch.Tensor], torch.Tensor] | None = None  # gates -> gates, see `changed_routing`
        self.owners: dict[tuple[str, int], Any] = {}  # (adapter, input width) -> the layer that holds shared numbers
        self._last: tuple[Any, str, torch.Tensor] | None = None  # see `once`

    def start(self) -> None:
        """Collect what routers do from here on."""
        self.active, self.seen = True, {}

    def stop(self) -> None:
        """Collect nothing, and forget."""
        self.active, self.seen = False, {}

    def note(self, block: str, adapter: str, routed: Routed) -> None:
        """Keep what the router of one block made of a pass, where it is collected."""
        if self.active:
            self.seen.setdefault((block, adapter), []).append(routed)

    def count(self, mask: torch.Tensor | None) -> None:
        """Add the tokens of the pass just collected to those that used each expert; mask (B, S): true at real ones."""
        for key, passes in self.seen.items():
            for routed in passes:
                used = (routed.gates.detach() > 0).flatten(0, -2)
                if mask is not None and mask.numel() == len(used):
                    used = used & mask.reshape(-1, 1).to(used.device).bool()
                self.used[key] = self.used.get(key, 0) + used.sum(0)

    def take_used(self) -> dict[tuple[str, str], torch.Tensor]:
        """Return, once, the tokens that used each expert of each (block, adapter) since the last call."""
        used, self.used = self.used, {}
        return used

    def once(self, x: torch.Tensor, key: str, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Return what `compute` makes of an input that several blocks have in common, made for the first of them.

        The input is known by being the same tensor, not an equal one, and is not kept alive; a model forgets it before
        every pass, since weights may have changed. Under torch.compile it is
        computed by every block, and the compiler finds that it is the same.
        """
        if torch.compiler.is_compiling():
            return compute()
        key = f"{key} {torch.is_grad_enabled()}"
        if self._last is not None and self._last[0]() is x and self._last[1] == key:
            return self._last[2]
        value = compute()
        self._last = (weakref.ref(x, self._forget), key, value)
        return value

    def forget(self) -> None:
        """Forget what was computed once."""
        self._last = None

    def _forget(self, gone: Any) -> None:
        if self._last is not None and self._last[0] is gone:
            self._last = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}  # of a pass; weak references cannot be copied
