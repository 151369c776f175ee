"""What a phase takes against every axis of the cost suite."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator

from reports.analysis.costs.cost_laws import Law
from reports.figures import style
from reports.figures.canvas import new_figure

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
