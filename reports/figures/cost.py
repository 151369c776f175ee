"""What a phase takes against every axis of the cost suite."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator

from reports.analysis.cost_laws import Law
from reports.figures import style
from reports.figures.canvas import new_figure


def draw_cost(laws: Sequence[Law], phase: str, what: str) -> Figure | None:
    """Draw what a phase takes, "seconds" or "memory", against every axis, both logarithmic; None without a point."""
    measured = [(law, law.points if what == "seconds" else law.memory) for law in laws if law.phase == phase]
    mine = [(law, shown) for law, points in measured if (shown := [(x, y) for x, y in points if y > 0])]
    axes = list(dict.fromkeys(law.axis for law, _ in mine))
    if not axes:
        return None
    figure, parts = new_figure(2.6 * len(axes) + 1, 2.8, len(axes), share_y=True)
    with matplotlib.rc_context(style.RC):
        lines: dict[str, Line2D] = {}
        looks = style.looks({law.label: law.method for law, _ in mine}.items())
        for part, axis in zip(np.atleast_1d(parts), axes, strict=True):
            for law, points in ((law, points) for law, points in mine if law.axis == axis):
                scale = 1 if what == "seconds" else 1e-6
                (lines[law.label],) = part.plot(
                    [x for x, _ in points], [scale * y for _, y in points], **looks[law.label]
                )
            part.set(xscale="log", yscale="log", xlabel=axis)
            ticks = sorted({x for law, points in mine if law.axis == axis for x, _ in points})
            part.set_xticks(ticks, [f"{x:g}" for x in ticks])
            part.minorticks_off()
            part.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
            part.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        unit = "seconds" if what == "seconds" else "MB above the loaded model"
        np.atleast_1d(parts)[0].set_ylabel(f"{phase}, {unit}")
        np.atleast_1d(parts)[-1].legend(
            lines.values(), lines, loc="center left", bbox_to_anchor=(1.01, 0.5)
        )  # of every panel: a method may be missing in the last
    return figure
