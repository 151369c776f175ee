"""What a phase takes against every axis of the cost suite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator

from reports.analysis.costs.card import Step
from reports.analysis.costs.cost_laws import Law
from reports.figures import style
from reports.figures.canvas import legend_right, method_axis, new_figure

ACROSS = 3  # panels side by side
TITLES = {"seconds": "time against each axis alone", "memory": "memory against each axis alone"}
UNITS = {"seconds": "Seconds", "memory": "MB above the loaded model"}


def draw_cost(laws: Sequence[Law], phase: str, what: str) -> Figure | None:
    """Draw what a phase takes, "seconds" or "memory", against every axis, both logarithmic; None without a point."""
    points = pd.DataFrame(
        [
            (law.axis, law.label, law.method, x, y if what == "seconds" else y / 1e6)
            for law in laws
            for x, y in (law.points if what == "seconds" else law.memory)
            if law.phase == phase and y > 0
        ],
        columns=["axis", "label", "method", "x", "y"],
    )
    if points.empty:
        return None
    looks = style.looks(points[["label", "method"]].drop_duplicates().itertuples(index=False, name=None))
    axes = points["axis"].unique()
    down = math.ceil(len(axes) / ACROSS)
    figure, parts = new_figure(8.6, 0.9 + 2.4 * down, min(len(axes), ACROSS), down, share_y=True)
    panels = np.atleast_1d(parts).ravel()
    with matplotlib.rc_context(style.RC):
        for panel, axis in zip(panels, axes, strict=False):
            of_axis = points[points["axis"] == axis]
            for label, line in of_axis.groupby("label", sort=False):
                panel.plot(line["x"], line["y"], **looks[str(label)])
            panel.set(xscale="log", yscale="log", xlabel=axis)
            ticks = sorted(of_axis["x"].unique())
            panel.set_xticks(ticks, [f"{x:g}" for x in ticks])
            panel.minorticks_off()
            panel.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
            panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        for panel in panels[len(axes) :]:
            panel.set_visible(False)
        figure.supylabel(UNITS[what], fontsize=9)
        figure.suptitle(f"{phase.capitalize()}: {TITLES[what]}", x=0.01, ha="left", fontsize=10)
        lines = [Line2D([], [], label=label, **look) for label, look in looks.items()]
        figure.legend(handles=lines, loc="outside lower center", ncols=4)
    return figure


def draw_steps(steps: Sequence[Step]) -> Figure:
    """Draw a bar for each step: what the device is busy, and what it waits for launches; the peak memory behind it."""
    labels = [f"{s.method}, {s.batch} x {s.tokens // s.batch}" for s in steps]
    figure, ax = new_figure(7.4, 1.4 + 0.3 * len(steps))
    whole = np.array([1e3 * s.seconds for s in steps])
    busy = np.array([1e3 * min(s.busy_seconds or 0.0, s.seconds) for s in steps])
    places = range(len(steps))
    look: dict[str, Any] = {"height": 0.72, "edgecolor": "white", "linewidth": 0.4}
    idle = {"color": style.PHASE_COLOURS["load"], "hatch": "//", "label": "waiting for launches"}
    ax.barh(places, busy, color=style.PHASE_COLOURS["train"], label="device busy", **look)
    ax.barh(places, whole - busy, left=busy, **idle, **look)
    for y, step in enumerate(steps):
        memory = "" if step.peak_bytes is None else f", {step.peak_bytes / 1e9:.1f} GB"
        ax.annotate(f"{whole[y]:.0f} ms{memory}", (whole[y], y), xytext=(3, 0), textcoords="offset points",
                    va="center", fontsize=7)  # fmt: skip
    ax.set_xlim(0, whole.max() * 1.25)
    ax.set_xlabel("Wall-clock of a training step (ms); its peak memory at the end of the bar")
    method_axis(ax, labels, f"A training step at the shape of {steps[0].model}")
    legend_right(ax)
    return figure
