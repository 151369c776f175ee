"""A control: the router is drawn at random and never trained, so tokens are told apart but nobody learns how."""

from __future__ import annotations

from typing import ClassVar, Literal

from smoe.routers.softmax import Softmax


class Frozen(Softmax):
    """g = softmax(R x) with R as it was drawn."""

    name: ClassVar[str] = "frozen"
    summary: ClassVar[str] = "control: a random linear router that is not trained"
    source: ClassVar[str] = "control, after AdaMix (arXiv 2205.12410), which routes at random"
    rows: ClassVar[Literal["trained", "fixed", "none"]] = "fixed"
