"""What every figure is drawn on: sizes, axes and legends in one style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from matplotlib.transforms import Bbox

from reports.figures import style

Rows = list[dict[str, Any]]
_HEIGHTS = (0, 11, -11, 22, -22, 34, -34, 46, -46, 58, -58)  # of a name above its point, in points


def new_figure(
    width: float,
    height: float,
    columns: int = 1,
    rows: int = 1,
    share_x: bool = False,
    share_y: bool = False,
    ratios: Sequence[float] | None = None,
) -> tuple[Figure, Any]:
    """Return an empty figure in the style of all, sizes in inches, and its axes. ratios: of the columns' widths."""
    with matplotlib.rc_context(style.RC):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(rows, columns, sharex=share_x, sharey=share_y, width_ratios=ratios)


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


def label_points(ax: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Write names beside points (x, y, name, colour), with a thin line to each, where no name hides another."""
    figure = ax.figure.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # names are placed among marks as they lie on paper
    marks = ax.transData.transform([(x, y) for x, y, *_ in points])
    taken = [Bbox.from_bounds(x - 7, y - 7, 14, 14) for x, y in marks]
    inch = figure.dpi / 72
    for (x, y, name, colour), at in sorted(zip(points, marks.tolist(), strict=True), key=lambda pair: -pair[0][1]):
        wide, tall = 4.9 * len(name) * inch, 9 * inch

        def box(dx: float, dy: float, at: list[float] = at, wide: float = wide, tall: float = tall) -> Bbox:
            left = at[0] + dx * inch - (wide if dx < 0 else 0)
            return Bbox.from_bounds(left, at[1] + dy * inch - tall / 2, wide, tall)

        spots = [(side * far, up) for far in (10, 24, 44) for up in _HEIGHTS for side in (1, -1)]
        inside = [spot for spot in spots if _lies_in(ax.bbox, box(*spot))] or spots
        spot = min(inside, key=lambda spot: sum(box(*spot).overlaps(other) for other in taken))
        taken.append(box(*spot))
        ax.annotate(
            name, (x, y), xytext=spot, textcoords="offset points", fontsize=7.5, color="#222222", va="center",
            ha="right" if spot[0] < 0 else "left", zorder=6,
            path_effects=[withStroke(linewidth=2, foreground="white")],
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 2},
        )  # fmt: skip


def _lies_in(outer: Bbox, inner: Bbox) -> bool:
    return outer.x0 <= inner.x0 and inner.x1 <= outer.x1 and outer.y0 <= inner.y0 and inner.y1 <= outer.y1


def nested_sizes(ax: Axes, points: Sequence[tuple[float, float]], large: float = 13, small: float = 5.5) -> list[float]:
    """Sizes of marks drawn in this order: of marks at one place the later are smaller, so that each juts out."""
    figure = ax.figure.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    at = ax.transData.transform(points) * 72 / figure.dpi
    sizes = []
    for i, place in enumerate(at):
        near = [j for j, other in enumerate(at) if np.hypot(*(place - other)) < large * 0.75]
        step = (large - small) / max(len(near) - 1, 1)
        sizes.append(8.0 if len(near) == 1 else large - step * near.index(i))
    return sizes


def legend_height(entries: int) -> float:
    """Inches that a figure needs beside a legend of so many lines."""
    return 0.8 + 0.17 * entries


def legend_right(ax: Axes, handles: Sequence[Any] | None = None) -> None:
    """Put the legend to the right of the axes. handles: where they or their order are not those of what was drawn."""
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), borderaxespad=0, handlelength=2.4)


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
