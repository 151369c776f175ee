"""Training loss by step, one line a method."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from reports.analysis.groups import Group
from reports.figures import style
from reports.figures.canvas import Rows, in_order, legend_height, legend_right, new_figure


def loss_rows(group: Group) -> Rows:
    """Training loss at each step, mean over the seeds that all methods have: another seed is another data order."""
    rows: Rows = []
    for row in group.on_common_seeds.finished:
        curves = [r.losses for r in row.done if r.losses]
        for step in range(min(map(len, curves), default=0)):
            loss = float(np.mean([curve[step] for curve in curves]))
            rows.append({"method": row.label, "family": row.method, "step": step + 1, "loss": loss})
    return rows


def draw_loss(rows: Rows, title: str) -> Figure:
    """Draw running means over a tenth of the steps: single batches differ by more than methods do."""
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
