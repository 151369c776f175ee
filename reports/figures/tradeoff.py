"""Figures of a group: each drawn from a plain list of rows, which is written as CSV beside it.

A figure is a pair: `<name>_rows(group)` decides the numbers, `draw_<name>(rows)` puts exactly those on paper. So what
is checked (the CSV) is what is shown. A figure with no rows is left out. Costs by phase are in phases.py,
maps over layers in heatmaps.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reports.analysis import stats
from reports.analysis.groups import Group
from reports.analysis.summary import CONTROLS, Summary, compare, contrasts, references, summarise
from reports.figures import style
from reports.figures.canvas import Rows, in_order, legend_height, legend_right, log_axis, method_axis, new_figure, size
from reports.figures.phases import draw_memory, draw_time, memory_rows, time_rows
from reports.render.tables import points_text

TRADE_OFFS = {
    "trainable_params": ("Trainable parameters", "accuracy-parameters"),
    "peak_bytes": ("Peak memory (MB)", "accuracy-memory"),
    "total_seconds": ("Wall-clock of the whole job (s)", "accuracy-time"),
}


def trade_off_rows(group: Group, cost: str) -> Rows:
    """Macro mean against a cost; `front` is 1 for methods that no other beats in both."""
    points = [s for s in summarise(group) if s.macro is not None and s.metrics[cost] is not None]
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


def loss_rows(group: Group) -> Rows:
    """Training loss at each step, mean over the seeds that all methods have: another seed is another data order."""
    rows: Rows = []
    for row in group.alike.finished:
        curves = [r.losses for r in row.done if r.losses]
        for step in range(min(map(len, curves), default=0)):
            loss = float(np.mean([curve[step] for curve in curves]))
            rows.append({"method": row.label, "family": row.method, "step": step + 1, "loss": loss})
    return rows


def draw_loss(rows: Rows, title: str) -> Figure:
    """A running mean over a tenth of the steps: single batches differ by more than methods do."""
    methods = in_order(rows)
    figure, ax = new_figure(7.4, max(4.2, legend_height(len(methods))))
    looks = style.looks({r["method"]: r["family"] for r in rows}.items())
    windows = set()
    for method in methods:
        losses = np.array([r["loss"] for r in rows if r["method"] == method])
        steps = np.arange(1, len(losses) + 1)
        window = max(1, len(losses) // 10)
        windows.add(window)
        smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
        look = looks[method]
        ax.plot(steps[window - 1 :], smooth, label=method, linewidth=1.4, markersize=5, markevery=0.2, **look)
    span = f", running mean over {max(windows)} steps" if windows and max(windows) > 1 else ""
    ax.set_xlabel("Optimiser step")
    ax.set_ylabel(f"Training loss{span}")
    ax.set_title(title, loc="left")
    legend_right(ax)
    return figure


def forest_rows(group: Group) -> Rows:
    """Paired differences to each reference with their intervals; fractions."""
    return [
        {
            "reference": c.reference.label, "method": c.row.label, "family": c.row.method,
            "order": group.rows.index(c.row),
            "difference": c.macro.value, "low": c.macro.low, "high": c.macro.high, "p_holm": c.macro_p,
        }
        for comparisons in contrasts(group)
        for c in comparisons
    ]  # fmt: skip


def draw_forest(rows: Rows, title: str) -> Figure:
    """A panel a reference, all on one scale; filled marks are significant after Holm's adjustment."""
    names = list(dict.fromkeys(r["reference"] for r in rows))
    methods = sorted(in_order(rows), key=lambda m: next(r["order"] for r in rows if r["method"] == m))
    figure, axes = new_figure(7.4, 1.5 + 0.29 * len(methods), columns=len(names), share_x=True, share_y=True)
    looks = style.looks({r["method"]: r["family"] for r in rows}.items())
    for ax, name in zip(np.atleast_1d(axes), names, strict=True):
        ax.axvline(0, color="#333333", linewidth=0.9)
        for r in [r for r in rows if r["reference"] == name]:
            y, look = methods.index(r["method"]), looks[r["method"]]
            if r["low"] is not None:
                ax.plot([100 * r["low"], 100 * r["high"]], [y, y], color=look["color"], linewidth=1.6)
            sure = r["p_holm"] is not None and r["p_holm"] < stats.ALPHA
            ax.plot(
                100 * r["difference"], y, marker=look["marker"], color=look["color"], markersize=size(look, 7),
                markerfacecolor=look["color"] if sure else "white",
            )  # fmt: skip
        ax.set_xlabel("Points above it, 95% interval")
        ax.xaxis.set_major_locator(MaxNLocator(6))
        method_axis(ax, methods, f"Against {name}")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    marks = [
        Line2D([], [], color="#555555", marker="o", linestyle="none", markerfacecolor=face, label=label)
        for face, label in (("#555555", "Holm-adjusted p < 0.05"), ("white", "not significant"))
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=2)
    return figure


def task_rows(group: Group) -> Rows:
    """Accuracy of each method and task, and its paired difference to the first reference.

    Without a reference it is the difference to the mean of all methods.
    """
    summaries = [s for s in summarise(group) if s.tasks]
    mean = {task: float(np.mean([s.tasks[task][0] for s in summaries])) for task in group.tasks if summaries}
    found = references(group)
    paired = {c.row: c.tasks for c in compare(group, found[0])} if found else {}

    def difference(s: Summary, task: str) -> float:
        if not found:
            return s.tasks[task][0] - mean[task]
        return 0.0 if s.row is found[0] else paired[s.row][task][0]

    return [
        {
            "method": s.row.label, "task": task, "accuracy": s.tasks[task][0],
            "against": found[0].label if found else "mean of all", "difference": difference(s, task),
        }
        for s in summaries
        for task in group.tasks
    ]  # fmt: skip


def draw_tasks(rows: Rows, title: str) -> Figure:
    """Accuracies in percent, below each the difference in points (on the seeds in common).

    Colours show it too, but not its sign in grey.
    """
    methods, tasks = in_order(rows), list(dict.fromkeys(r["task"] for r in rows))
    grid = np.full((len(methods), len(tasks)), np.nan)
    figure, ax = new_figure(2.6 + 0.72 * len(tasks), 1.6 + 0.36 * len(methods))
    for r in rows:
        grid[methods.index(r["method"]), tasks.index(r["task"])] = 100 * r["difference"]
    limit = max(1.0, float(np.nanmax(np.abs(grid))))
    image = ax.imshow(grid, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
    for r in rows:
        x, y = tasks.index(r["task"]), methods.index(r["method"])
        text = f"{100 * r['accuracy']:.1f}"
        if r["method"] != r["against"]:
            text += f"\n{points_text(r['difference'])}"
        ax.text(x, y, text, ha="center", va="center", fontsize=7.5, color=style.ink(image.to_rgba(grid[y, x])))
    ax.set_xticks(range(len(tasks)), [t.replace("_", "\n") for t in tasks])
    ax.set_yticks(range(len(methods)), methods)
    ax.grid(False)
    ax.set_title(title, loc="left")
    against = rows[0]["against"]
    label = f"points above {against}{', on the seeds in common' if against in methods else ''}"
    figure.colorbar(image, ax=ax, label=label, shrink=0.9)
    return figure


def figures(group: Group) -> dict[str, tuple[Rows, Callable[[], Figure]]]:
    """{file stem: (plotted rows, how to draw them)} of every figure that has something to show."""
    found: dict[str, tuple[Rows, Callable[[], Figure]]] = {}

    def add(name: str, rows: Rows, draw: Callable[[], Figure]) -> None:
        if rows:
            found[name] = (rows, draw)

    def trade_off(cost: str, label: str, stem: str) -> None:
        rows = trade_off_rows(group, cost)
        short = label.split(" (")[0].lower()
        add(stem, rows, lambda: draw_trade_off(rows, cost, f"Accuracy against {short}"))

    for cost, (label, stem) in TRADE_OFFS.items():
        trade_off(cost, label, stem)
    memory, time, loss = memory_rows(group), time_rows(group), loss_rows(group)
    forest, tasks = forest_rows(group), task_rows(group)
    controls = [r for r in forest if r["reference"] in CONTROLS]
    forest = [r for r in forest if r not in controls]
    add("memory", memory, lambda: draw_memory(memory, "Peak memory by phase"))
    add("time", time, lambda: draw_time(time, "Wall-clock by phase"))
    add("loss", loss, lambda: draw_loss(loss, "Training loss"))
    add("differences", forest, lambda: draw_forest(forest, "Paired differences of the macro mean"))
    add("controls", controls, lambda: draw_forest(controls, "Chance: does the allocation matter? Paired differences"))
    add("tasks", tasks, lambda: draw_tasks(tasks, "Accuracy by task (%)"))
    return found
