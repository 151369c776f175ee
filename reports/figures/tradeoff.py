"""Accuracy against what it costs: a point a method, the Pareto front as a line."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports import roster
from reports.analysis.groups import Group
from reports.figures import style
from reports.figures.canvas import (
    Rows,
    label_points,
    legend_height,
    legend_right,
    log_axis,
    nested_sizes,
    new_figure,
    size,
)

CROWDED = 10  # more methods than these: bars are faint, and only the README's methods are named at their points
SAME = 0.05  # costs that differ by no more than this share of the smaller one are one cost
RULE = (
    "Pareto front, of costs within 5% the most accurate method where it beats every cheaper one beyond chance "
    "(verdicts at 5%)"
)

TRADE_OFFS = {
    "trainable_params": ("Trainable parameters", "accuracy-parameters"),
    "peak_bytes": ("Peak memory (MB)", "accuracy-memory"),
    "total_seconds": ("Wall-clock of the whole job (s)", "accuracy-time"),
}


def trade_off_rows(group: Group, cost: str) -> Rows:
    """Macro mean against a cost; `front` is 1 for methods that `front` names."""
    points = [s for s in group.summaries if s.macro is not None and s.metrics[cost] is not None]
    costs = {s.row.label: s.metrics[cost] or 0.0 for s in points}
    on_front = front(costs, {s.row.label: s.macro or 0.0 for s in points}, group.outdone)
    return [
        {
            "method": s.row.label, "family": s.row.method, cost: s.metrics[cost], "macro_accuracy": s.macro,
            "stderr": s.macro_stderr, "front": int(s.row.label in on_front),
            "seeds": " ".join(f"{x:.6g}" for x in s.macro_seeds),
        }
        for s in points
    ]  # fmt: skip


def front(
    costs: Mapping[str, float], accuracies: Mapping[str, float], outdone: Mapping[str, Collection[str]]
) -> list[str]:
    """Return the methods on the Pareto front, by rising cost: those that are told apart from every cheaper one.

    outdone: {method: those that the verdicts call less accurate}. A method enters only if each cheaper one is among
    them: a tie with something cheaper is no gain. Of costs within 5% of each other the most accurate may enter.
    """

    def enters(method: str) -> bool:
        cheaper = {other for other, cost in costs.items() if cost * (1 + SAME) < costs[method]}
        same = [o for o, cost in costs.items() if o not in cheaper and cost <= costs[method] * (1 + SAME)]
        return cheaper <= set(outdone[method]) and accuracies[method] == max(accuracies[o] for o in same)

    return sorted(filter(enters, costs), key=lambda method: costs[method])


def draw_trade_off(rows: Rows, cost: str, title: str) -> Figure:
    """Points with one standard error, and the front as a step line; untrained methods as a level line on log axes."""
    crowded = len(rows) > CROWDED
    figure, ax = new_figure(8.6, max(4.8, legend_height(len(rows) + 2)))
    looks = style.looks((r["method"], r["family"]) for r in rows)
    scale = 1e-6 if cost.endswith("_bytes") else 1.0
    # Stars, which fill least of their box, and the README's methods lie on top.
    placed = [r for r in rows if cost != "trainable_params" or r[cost] > 0]
    placed.sort(key=lambda r: (looks[r["method"]]["marker"] == "*", roster.entry(r["family"]).in_readme))
    for r in rows:
        if r not in placed:
            colour = looks[r["method"]]["color"]
            label = f"{r['method']} (trains none)"
            ax.axhline(100 * r["macro_accuracy"], color=colour, linestyle=(0, (1, 2)), linewidth=1.3, label=label)
    for r in placed:
        error = None if r["stderr"] is None else 100 * r["stderr"]
        ax.errorbar(
            r[cost] * scale, 100 * r["macro_accuracy"], yerr=error, color=looks[r["method"]]["color"], capsize=2,
            linestyle="none", linewidth=0.8 if crowded else 1.1, alpha=0.35 if crowded else 0.8, zorder=2,
        )  # fmt: skip
    if cost == "trainable_params" and placed:
        log_axis(ax, [r[cost] for r in placed])
    ax.set_xlabel(TRADE_OFFS[cost][0])
    ax.set_title(title, loc="left")
    _marks(ax, placed, cost, scale, looks)
    many = any(" " in r["seeds"] for r in placed)
    ax.set_ylabel(f"Macro mean accuracy (%), ±1 st. error{'; rings: seeds' if many else ''}")
    on_front = sorted((r[cost] * scale, 100 * r["macro_accuracy"]) for r in placed if r["front"])
    if len(on_front) > 1 and _spread(ax, on_front) > 0.04:  # a shorter one would be hidden by its own marks
        ax.step(
            *zip(*on_front, strict=True), where="post", color="#777777", linewidth=1, zorder=1, label="Pareto front"
        )
    legend_right(ax, _legend(ax, rows, looks))
    named = sorted((r for r in rows if r["front"]), key=lambda r: r[cost])
    figure.supxlabel(f"{RULE}: {', '.join(r['method'] for r in named) or 'none'}.", x=0.01, ha="left", fontsize=7.5)
    shown = [r for r in placed if not crowded or r["front"] or roster.entry(r["family"]).in_readme]
    if shown:
        label_points(
            ax,
            [(r[cost] * scale, 100 * r["macro_accuracy"], r["method"], looks[r["method"]]["color"]) for r in shown],
        )
    return figure


def _marks(ax: Axes, placed: Rows, cost: str, scale: float, looks: dict[str, dict[str, Any]]) -> None:
    """Draw a mark a method, and a ring a seed where there are several."""
    places = [(r[cost] * scale, 100 * r["macro_accuracy"]) for r in placed]
    for r, (x, y), mark in zip(placed, places, nested_sizes(ax, places) if places else (), strict=True):
        look = looks[r["method"]]
        ax.plot(
            x, y, color=look["color"], marker=look["marker"], markersize=size(look, mark), linestyle="none",
            markeredgecolor="white", markeredgewidth=0.6, zorder=4,
        )  # fmt: skip
        points = [100 * float(value) for value in r["seeds"].split()]
        if len(points) > 1:
            ax.plot(
                [x] * len(points), points, "o", color=look["color"], markersize=3, zorder=3, markerfacecolor="white",
                markeredgewidth=0.7,
            )  # fmt: skip


def _legend(ax: Axes, rows: Rows, looks: dict[str, dict[str, Any]]) -> list[Any]:
    """List handles from the most accurate method to the least, as the points lie; lines of no method come first."""
    lines = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    handles = []
    for r in sorted(rows, key=lambda r: -r["macro_accuracy"]):
        look = looks[r["method"]]
        mark = Line2D([], [], color=look["color"], marker=look["marker"], linestyle="none", label=r["method"])
        mark.set_markersize(size(look, 7))
        handles.append(lines.pop(f"{r['method']} (trains none)", mark))
    return [*lines.values(), *handles]


def _spread(ax: Axes, points: list[tuple[float, float]]) -> float:
    """How far the points reach across or up, as a share of the axes."""
    ax.autoscale_view()
    return float(np.ptp((ax.transData - ax.transAxes).transform(points), axis=0).max())
