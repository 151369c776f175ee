"""Allocation stability as a figure: overlap and rank correlation against the samples a task."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.analysis.stability import DRAW, SMALLER
from reports.figures import style
from reports.figures.canvas import new_figure

MEASURES = (("overlap", "Overlap of experts (%)", 100.0), ("rank_correlation", "Rank correlation over blocks", 1.0))


def draw_stability(pairs: pd.DataFrame, title: str) -> Figure:
    """Overlap and rank correlation against samples a task: every pair as a dot, means as lines, chance dashed."""
    figure, axes = new_figure(7.4, 3.9, columns=2)
    methods = pairs[["method", "family"]].drop_duplicates()
    looks: dict[str, dict[str, Any]] = style.looks(methods.itertuples(index=False, name=None))
    for ax, (measure, label, factor) in zip(axes, MEASURES, strict=True):
        for (method, kind), part in pairs.dropna(subset=[measure]).groupby(["method", "kind"], sort=False):
            look = looks[method]
            means = factor * part.groupby("samples")[measure].mean()
            marks = {**look, "linestyle": "-" if kind == DRAW else ":"}
            face = look["color"] if kind == DRAW else "white"
            ax.plot(means.index, means, **marks, markerfacecolor=face, markersize=5.5)
            ax.plot(part["samples"], factor * part[measure], ".", color=look["color"], alpha=0.25)
            if measure == "overlap" and kind == DRAW:
                chance = factor * part.groupby("samples")["chance"].mean()
                ax.plot(chance.index, chance, "--", color=look["color"], linewidth=1)
        sizes = sorted(pairs["samples"].unique())
        ax.set_xscale("log", base=2)
        ax.set_xticks(sizes, [str(n) for n in sizes])
        ax.set_xlabel("Samples a task")
        ax.set_ylabel(label)
        low, high = (0.0, 103.0) if measure == "overlap" else (min(0.0, ax.get_ylim()[0]), 1.03)
        ax.set_ylim(low, high)
    handles = [Line2D([], [], **look, label=method) for method, look in looks.items()]
    kinds: dict[str, Any] = {DRAW: "-", SMALLER: ":", "by chance": "--"}
    handles += [Line2D([], [], color="#555555", linestyle=dashes, label=label) for label, dashes in kinds.items()]
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure
