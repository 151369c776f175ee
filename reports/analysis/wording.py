"""Numbers as people read them: percent, MB, seconds, millions of parameters; and the intervals beside them."""

from __future__ import annotations

from results.metrics import Metric
from results.table import NOTHING

# Unit of a metric as stored -> the unit shown, and the factor between them.
SHOWN = {"fraction": ("%", 100.0), "bytes": ("MB", 1e-6), "seconds": ("s", 1.0), "params": ("", 1.0)}


def metric_text(row: Metric, value: float | None, compact: bool = False) -> str:
    """Write a value in the shown unit, without its name; compact: millions of parameters."""
    if compact and row.unit == "params" and value is not None and value >= 1e5:
        return f"{value / 1e6:,.2f}M"
    return NOTHING if value is None else format(value * SHOWN.get(row.unit, ("", 1.0))[1], row.format)


def interval_text(interval: tuple[float, float] | None) -> str:
    """Write an interval of fractions in points."""
    return NOTHING if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"
