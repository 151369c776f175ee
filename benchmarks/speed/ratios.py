"""Competitors take turns within one run, so that what drifts in a machine cancels in the ratio of two of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import RenderableType

from results.table import Table, plain_markdown, terminal_table


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is divided by what, and the bound that the ratio should keep."""

    name: str
    bound: float | None  # None: for information
    at_most: bool = True

    def __str__(self) -> str:
        return "-" if self.bound is None else f"{'<=' if self.at_most else '>='} {self.bound:g}"


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One measured ratio: the median over rounds with the middle half of them."""

    target: Target
    value: float
    low: float
    high: float
    detail: str  # sizes and absolute figures, for orientation only

    @property
    def met(self) -> bool | None:
        bound = self.target.bound
        if bound is None:
            return None
        return self.value <= bound if self.target.at_most else self.value >= bound

    @property
    def verdict(self) -> str:
        return {True: "met", False: "missed", None: ""}[self.met]

    def to_json(self) -> dict[str, Any]:
        t = self.target
        return {"name": t.name, "value": self.value, "low": self.low, "high": self.high} | {
            "bound": t.bound,
            "direction": "at most" if t.at_most else "at least",
            "met": self.met,
            "detail": self.detail,
        }


def from_json(row: Mapping[str, Any]) -> Ratio:
    """Read what `Ratio.to_json` wrote."""
    target = Target(name=row["name"], bound=row["bound"], at_most=row["direction"] == "at most")
    return Ratio(target=target, **{name: row[name] for name in ("value", "low", "high", "detail")})


def ratio(target: Target, values: Sequence[float], detail: str) -> Ratio:
    """Summarise the ratios of the rounds."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else list(values) * 3
    return Ratio(target=target, value=statistics.median(values), low=low, high=high, detail=detail)


class SideBySide:
    """Call it for one round: every competitor once, in an order that is reversed from round to round."""

    def __init__(self, competitors: Mapping[str, Callable[[], object]], device: str) -> None:
        self.competitors = dict(competitors)
        self.cuda = torch.device(device).type == "cuda"
        self.seconds: dict[str, list[float]] = {name: [] for name in competitors}
        for compete in self.competitors.values():  # allocators and kernels are warm when time counts
            compete()

    def __call__(self) -> None:
        order = list(self.competitors)
        turned = any(len(seconds) % 2 for seconds in self.seconds.values())
        for name in reversed(order) if turned else order:
            self._synchronise()
            start = time.perf_counter()
            self.competitors[name]()
            self._synchronise()
            self.seconds[name].append(time.perf_counter() - start)

    def over(self, a: str, b: str, scale: float = 1.0) -> list[float]:
        """Seconds of `a` over those of `b`, round by round, times `scale`."""
        return [scale * x / y for x, y in zip(self.seconds[a], self.seconds[b], strict=True)]

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def _synchronise(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


@dataclass(frozen=True)
class Subject:
    """A comparison ready to be measured: call `round` so many times, then ask for the `rows`, then for the `tables`."""

    round: SideBySide
    rounds: int
    rows: Callable[[], list[Ratio]]
    tables: Callable[[], list[Table]] = list  # further figures behind the ratios


HEADINGS = ("ratio", "value", "middle half", "target", "", "detail")


def as_table(rows: Sequence[Ratio], title: str = "") -> Table:
    """Lay out every ratio with its target and whether it is met."""
    between = [f"{row.low:.3g} to {row.high:.3g}" for row in rows]
    cells = [
        (row.target.name, f"{row.value:.3g}", middle, str(row.target), row.verdict, row.detail)
        for row, middle in zip(rows, between, strict=True)
    ]
    return Table(title, HEADINGS, tuple(cells))


def table(rows: Sequence[Ratio]) -> RenderableType:
    """Make the table for the terminal."""
    colour = {"met": "green", "missed": "red", "": ""}
    column = HEADINGS.index("")
    styles = {(i, column): colour[row.verdict] for i, row in enumerate(rows)}
    return terminal_table(as_table(rows, "side by side, in one run"), boxed=True, styles=styles)


def markdown(rows: Sequence[Ratio]) -> str:
    """Make the table for a page."""
    return plain_markdown(as_table(rows))
