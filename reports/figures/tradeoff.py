"""Accuracy against what it costs: a point a method, the Pareto front as a line."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.analysis import stats
from reports.analysis.groups import Group
from reports.figures import style
from reports.figures.canvas import Rows, legend_height, legend_right, log_axis, new_figure, size

TRADE_OFFS = {
    "trainable_params": ("Trainable parameters", "accuracy-parameters"),
    "peak_bytes": ("Peak memory (MB)", "accuracy-memory"),
    "total_seconds": ("Wall-clock of the whole job (s)", "accuracy-time"),
}


def trade_off_rows(group: Group, cost: str) -> Rows:
    """Macro mean against a cost; `front` is 1 for methods that no other beats in both."""
    points = [s for s in group.summaries if s.macro is not None and s.metrics[cost] is not None]
    front = set(stats.pareto([(s.metrics[cost] or 0.0, s.macro or 0.0) for s in points]))
    return [
        {
            "method": s.row.label, "family": s.row.method, cost: s.metrics[cost], "macro_accuracy": s.macro,
            "stderr": s.macro_stderr, "front": int(i in front), "seeds": " ".join(f"{x:.6g}" for x in s.macro_seeds),
        }
        for i, s in enumerate(points)
    ]  # fmt: skip


def draw_trade_off(rows: Rows, cost: str, title: str) -> Figure:
    """Points with one standard error (of many only its size is said, or their bars would hide the marks).

    The front is a step line, untrained methods a level line on log axes.
    """
    figure, ax = new_figure(7.4, max(4.4, legend_height(len(rows) + 1)))
    looks = style.looks((r["method"], r["family"]) for r in rows)
    scale = 1e-6 if cost.endswith("_bytes") else 1.0
    many, crowded = False, len(rows) > 10
    placed = [r for r in rows if cost != "trainable_params" or r[cost] > 0]
    # Each mark is smaller than those below it, so that none hides another.
    sizes = dict(zip([r["method"] for r in placed], np.linspace(11, 7.5, len(placed)), strict=True))
    for r in rows:
        look = looks[r["method"]]
        y = 100 * r["macro_accuracy"]
        if r not in placed:
            ax.axhline(
                y, color=look["color"], linestyle=(0, (1, 2)), linewidth=1.3, label=f"{r['method']} (trains none)"
            )
            continue
        error = None if r["stderr"] is None or crowded else 100 * r["stderr"]
        mark = size(look, sizes[r["method"]])
        ax.errorbar(
            r[cost] * scale, y, yerr=error, color=look["color"], marker=look["marker"], markersize=mark,
            capsize=mark / 3, linestyle="none", linewidth=1.1, markeredgecolor="white", markeredgewidth=0.6, zorder=3,
            label=r["method"],
        )  # fmt: skip
        points = [100 * float(x) for x in r["seeds"].split()]
        if len(points) > 1:
            ax.plot(
                [r[cost] * scale] * len(points), points, "o", color=look["color"], markersize=3.5, zorder=4,
                markerfacecolor="white", markeredgewidth=0.8,
            )  # fmt: skip
            many = True
    ax.set_xlabel(TRADE_OFFS[cost][0])
    rings = "; rings: seeds" if many else ""
    errors = [100 * r["stderr"] for r in rows if r["stderr"] is not None]
    bars = f", st. errors {min(errors):.1f} to {max(errors):.1f}" if crowded and errors else ", ±1 st. error"
    ax.set_ylabel(f"Macro mean accuracy (%){bars}{rings}")
    if cost == "trainable_params" and placed:
        log_axis(ax, [r[cost] for r in placed])
    front = sorted((r[cost] * scale, 100 * r["macro_accuracy"]) for r in placed if r["front"])
    if len(front) > 1 and _spread(ax, front) > 0.04:  # a shorter one would be hidden by its own marks
        ax.step(*zip(*front, strict=True), where="post", color="#777777", linewidth=1, zorder=1, label="Pareto front")
    ax.set_title(title, loc="left")
    legend_right(ax)
    return figure


def _spread(ax: Axes, points: list[tuple[float, float]]) -> float:
    """How far the points reach across or up, as a share of the axes."""
    ax.autoscale_view()
    return float(np.ptp((ax.transData - ax.transAxes).transform(points), axis=0).max())
