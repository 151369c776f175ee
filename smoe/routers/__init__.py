"""How tokens choose experts, one file each, found by this folder; `SMoEConfig(router=NAME)` takes one.

A new router is a file here with a subclass of `Router`; the contract tests are run on whatever the folder holds.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from typing import ClassVar, Literal, Protocol

import torch

from smoe.found import found, pick
from smoe.routers.balance import active_share, balance_loss
from smoe.routers.state import Own, Routed, RoutingState

Gates = tuple[torch.Tensor, torch.Tensor] | Routed


class RouterSettings(Protocol):
    """What routers read of the tuner's configuration; see `SMoEConfig`."""

    @property
    def top_k(self) -> int | None: ...

    @property
    def top_p(self) -> float: ...

    @property
    def threshold(self) -> float | None: ...

    @property
    def router_hidden(self) -> int: ...

    @property
    def renormalise(self) -> bool: ...

    @property
    def router_tasks(self) -> Sequence[int]: ...

    @property
    def expert_pattern(self) -> Mapping[str, int]: ...

    @property
    def num_experts(self) -> int: ...


class Router(ABC):
    """Turns router logits into gate weights; most have nothing to train but the E rows that make the logits."""

    name: ClassVar[str]
    summary: ClassVar[str]  # one line
    source: ClassVar[str]
    rows: ClassVar[Literal["trained", "fixed", "none"]]  # of the matrix R (E, I) that makes the logits
    constant: ClassVar[bool] = False  # whether gates are 1/E for every token, so that the update can be merged
    told_tasks: ClassVar[bool] = False  # whether it has to be told each sample's task, in training and evaluation
    sparse: ClassVar[bool] = False  # whether the number of experts that a token uses is its own choice
    extra_rows: ClassVar[int] = 0  # trained rows of R beyond the E
    numbers: ClassVar[int] = 0  # further trained numbers of a block, where blocks share none
    shares: ClassVar[bool] = False  # whether blocks share what they compute in a pass, see `RoutingState.once`
    biased: ClassVar[bool] = False  # whether a block has E numbers that are set, not trained, see `Own.bias`

    def check(self, config: RouterSettings) -> None:
        """Raise ValueError for settings that mean nothing to this router."""
        if self.sparse and config.top_k is not None:
            raise ValueError(
                f"router {self.name} lets every token choose how many it uses: leave top_k {config.top_k} out"
            )

    def shared_numbers(self, inputs: int, hidden: int) -> int:
        """Count the trained numbers that all blocks of one input width share."""
        return 0

    def first_numbers(self, inputs: int, hidden: int, generator: torch.Generator) -> torch.Tensor:
        """Draw the numbers that a block, or all blocks of one input width, begin with, (n,)."""
        return torch.empty(0)

    @abstractmethod
    def gates(self, logits: torch.Tensor, config: RouterSettings, state: RoutingState, own: Own) -> Gates:
        """Turn logits (..., E + extra rows) into probabilities (before any choice) and gates, both (..., E) in fp32.

        Without rows the logits are 0. state: what the whole model knows of the pass, such as each sample's task; own:
        what this block's router has beside its rows. A `Routed` may say more than the two.
        """

    def balance(self, routed: Routed, config: RouterSettings, mask: torch.Tensor | None) -> torch.Tensor:
        """Return how unevenly the tokens of one router go, 1 when even; mask (T,) is true at those that count."""
        if self.sparse:
            return active_share(routed.probabilities, routed.gates, mask)
        return balance_loss(routed.probabilities, config.top_k, mask)


@cache
def routers() -> dict[str, type[Router]]:
    """Return every router by name."""
    return found(sys.modules[__name__], Router)  # type: ignore[type-abstract]


def router(name: str) -> Router:
    """Return the router of that name. Raises ValueError with the nearest names."""
    return _made(name)


@cache
def _made(name: str) -> Router:
    return pick("router", name, routers())()


def router_params(name: str, experts: int, inputs: int) -> int:
    """Count what the router of one block trains beside what blocks share; none with one expert."""
    chosen = router(name)
    if experts < 2 or chosen.rows != "trained":
        return 0
    return (experts + chosen.extra_rows) * inputs + chosen.numbers


def shared_params(name: str, widths: Sequence[int], hidden: int) -> int:
    """Count what routers train once for all blocks of one input width; widths: of blocks, each counted once."""
    return sum(router(name).shared_numbers(width, hidden) for width in set(widths))
