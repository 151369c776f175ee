"""What every figure is drawn on: sizes, axes and legends in one style."""

from __future__ import annotations

from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from reports.figures import style

Rows = list[dict[str, Any]]


def new_figure(
    width: float, height: float, columns: int = 1, share_x: bool = False, share_y: bool = False
) -> tuple[Figure, Any]:
    """Return an empty figure in the style of all, sizes in inches, and its axes."""
    with matplotlib.rc_context(style.RC):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(1, columns, sharex=share_x, sharey=share_y)


def size(look: dict[str, Any], size: float) -> float:
    """Scale a marker's size: a star fills less of its box than the other marks."""
    return 1.5 * size if look["marker"] == "*" else size


def marker_path(marker: str) -> str:
    """Return a marker as an SVG path around (0, 0), about one unit wide: a page draws the figures' own marks."""
    letters = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}
    made = MarkerStyle(marker)
    text = ""
    for points, code in made.get_path().transformed(made.get_transform()).iter_segments(simplify=False):
        flipped = [value * (-1 if i % 2 else 1) for i, value in enumerate(points)]  # in SVG, down is positive
        numbers = " ".join(f"{round(float(value), 3) + 0.0:g}" for value in flipped)
        text += "Z" if code == Path.CLOSEPOLY else f"{letters[code]}{numbers}"
    return text


def in_order(rows: Rows) -> list[str]:
    """Return the methods of the rows, each once, in their order."""
    return list(dict.fromkeys(r["method"] for r in rows))


def method_axis(ax: Axes, methods: list[str], title: str) -> None:
    """Methods from top to bottom on the vertical axis."""
    ax.set_yticks(range(len(methods)), methods)
    ax.set_ylim(len(methods) - 0.4, -0.6)
    ax.grid(False, axis="y")
    if title:
        ax.set_title(title, loc="left")


def legend_height(entries: int) -> float:
    """Inches that a figure needs beside a legend of so many lines."""
    return 0.8 + 0.17 * entries


def legend_right(ax: Axes) -> None:
    """Put the legend to the right of the axes."""
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), borderaxespad=0, handlelength=2.4)


def log_axis(ax: Axes, values: list[float]) -> None:
    """Label a logarithmic axis with plain millions: at 1, 2 and 5, or evenly where that would be too few."""
    ax.set_xscale("log")
    low, high = min(values), max(values)
    room = max(1.1, (high / low) ** 0.1)
    ax.set_xlim(low / room, high * room)
    if high < 5 * low:
        ax.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        ax.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _count_text(x)))


def _count_text(x: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if x >= size:
            return f"{x / size:g}{letter}"
    return f"{x:g}"
