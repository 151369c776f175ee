"""What the gate's checks are made of: the limits, the finding, and how a change is judged and shown."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

STATUSES = ("regression", "warning", "improvement", "new", "ok")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """From where on a change counts; fractions, not percent."""

    reference: str | None = None  # method that accuracy and time relate to; None: lora, where there is one
    memory: float = 0.02  # of a phase's peak
    memory_warning: float = 0.005
    accuracy: float = 0.005  # of the macro mean, as the difference to the reference
    loglikelihood: float = 0.001  # nats of the right choice, mean over documents and tasks, as that difference
    p: float = 0.01  # one-sided, over documents; has to be passed beside either of the two
    tolerance: float = 1e-4  # of one log-likelihood, where runs repeat
    time: float = 0.15  # of a phase's seconds over the reference's
    time_spread: float = 0.5  # that a row with one repeat is taken to have; rows with several show their own
    shortest_seconds: float = 2.0  # a phase shorter than this is not timed
    loss: float = 0.002  # of the mean training loss over the second half of the steps; five times where no run repeats
    allow_missing: bool = False  # missing and failed rows are warnings
    declared: bool = False  # answers were meant to change, or are another machine's: changed ones are warnings

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{field.name}: {value} is no limit; give a number above 0")
        if self.p >= 1:
            raise ValueError(f"p: {self.p} is no limit; give a probability above 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check says of one row."""

    row: str
    check: str
    status: str  # one of STATUSES
    base: str = ""
    new: str = ""
    change: str = ""
    detail: str = ""


def judge(change: float, limit: float, warning: float | None = None) -> str:
    """Of a relative change of something that should not grow."""
    if change > limit:
        return "regression"
    if warning is not None and change > warning:
        return "warning"
    return "improvement" if change < -limit else "ok"


def percent(change: float) -> str:
    """Write a fraction as percent, with its sign."""
    return f"{100 * change:+z.2f}%"


def points(value: float) -> str:
    """Write a difference of two fractions in points, with its sign."""
    return f"{100 * value:+z.2f} points"
