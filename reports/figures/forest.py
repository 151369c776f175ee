"""Paired differences to each reference with their intervals: a forest plot a reference."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reports.analysis import stats
from reports.analysis.groups import Group
from reports.figures import style
from reports.figures.canvas import Rows, method_axis, new_figure, size


def forest_rows(group: Group) -> Rows:
    """Paired differences to each reference with their intervals; fractions."""
    return [
        {
            "reference": c.reference.label, "method": c.row.label, "family": c.row.method,
            "order": group.rows.index(c.row),
            "difference": c.macro.value, "low": c.macro.low, "high": c.macro.high, "p_holm": c.macro_p,
        }
        for comparisons in group.contrasts
        for c in comparisons
    ]  # fmt: skip


def draw_forest(rows: Rows, title: str) -> Figure:
    """Draw a panel a reference, all on one scale; filled marks are significant after Holm's adjustment."""
    names = list(dict.fromkeys(r["reference"] for r in rows))
    differences = pd.DataFrame(rows)
    methods = list(differences.sort_values("order")["method"].unique())
    figure, axes = new_figure(7.4, 1.5 + 0.29 * len(methods), columns=len(names), share_x=True, share_y=True)
    looks = style.looks({r["method"]: r["family"] for r in rows}.items())
    for ax, name in zip(np.atleast_1d(axes), names, strict=True):
        ax.axvline(0, color="#333333", linewidth=0.9)
        for r in differences[differences["reference"] == name].to_dict("records"):
            y, look = methods.index(r["method"]), looks[r["method"]]
            if pd.notna(r["low"]):
                ax.plot([100 * r["low"], 100 * r["high"]], [y, y], color=look["color"], linewidth=1.6)
            sure = pd.notna(r["p_holm"]) and r["p_holm"] < stats.ALPHA
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
