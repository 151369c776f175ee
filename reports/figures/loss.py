"""Training loss by step, one line a method."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from reports.analysis.groups import Group
from reports.figures import style
from reports.figures.canvas import Rows, in_order, legend_height, legend_right, new_figure


def loss_rows(group: Group) -> Rows:
    """Training loss at each step, mean over the seeds that all methods have: another seed is another data order."""
    rows: Rows = []
    for row in group.on_common_seeds.finished:
        curves = [pd.Series(r.losses, dtype=float) for r in row.done if r.losses]
        mean = pd.concat(curves, axis=1, join="inner").mean(axis=1, skipna=False) if curves else ()
        for step, loss in enumerate(mean, start=1):
            rows.append({"method": row.label, "family": row.method, "step": step, "loss": loss})
    return rows


def draw_loss(rows: Rows, title: str) -> Figure:
    """Draw running means over a tenth of the steps: single batches differ by more than methods do."""
    methods = in_order(rows)
    figure, ax = new_figure(7.4, max(4.2, legend_height(len(methods))))
    looks = style.looks({r["method"]: r["family"] for r in rows}.items())
    windows = set()
    for method, curve in pd.DataFrame(rows).groupby("method", sort=False):
        window = max(1, len(curve) // 10)
        windows.add(window)
        smooth = curve.set_index("step")["loss"].rolling(window).mean().iloc[window - 1 :]
        look = looks[str(method)]
        ax.plot(smooth.index, smooth, label=method, linewidth=1.4, markersize=5, markevery=0.2, **look)
    span = f", running mean over {max(windows)} steps" if windows and max(windows) > 1 else ""
    ax.set_xlabel("Optimiser step")
    ax.set_ylabel(f"Training loss{span}")
    ax.set_title(title, loc="left")
    legend_right(ax)
    return figure
