"""Learning curves: the loss by step, and whether it differs from the first reference's, with interval and verdict."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports import roster
from reports.analysis.groups import Group
from reports.analysis.verdicts import LOSS
from reports.figures import style
from reports.figures.canvas import Rows, in_order, legend_height, legend_right, method_axis, new_figure
from reports.figures.forest import draw_verdicts, judged_row, reference_row, verdict_marks

FEW = 8  # lines that can be told apart in one panel; of more, those of the README's table stand out
OTHERS = "#BBBBBB"


def loss_rows(group: Group) -> Rows:
    """Training loss at each step, then the verdict on each method's mean loss before training (nats a token).

    Losses are means over the seeds that all methods have: another seed is another data order. A verdict is on the
    seeds that a method has in common with the reference.
    """
    rows: Rows = []
    for row in group.on_common_seeds.finished:
        curves = [pd.Series(r.losses, dtype=float) for r in row.done if r.losses]
        mean = pd.concat(curves, axis=1, join="inner").mean(axis=1, skipna=False) if curves else ()
        for step, loss in enumerate(mean, start=1):
            rows.append({"method": row.label, "family": row.method, "step": step, "loss": loss})
    for reference in group.references[:1] if rows else ():
        judged = next((js for by in group.judged if (js := by.get(LOSS.name)) and js[0].reference is reference), [])
        rows += [judged_row(j) for j in judged]
        if judged:
            rows.append(reference_row(judged[0]))
    return rows


def draw_loss(rows: Rows, title: str) -> Figure:
    """Draw the curves and, where there is a reference, each method's difference to it; one look a method in both."""
    frame = pd.DataFrame(rows)
    looks = style.looks({r["method"]: r["family"] for r in rows}.items())
    curves = frame[frame["step"].notna()]
    if "verdict" not in frame or frame["verdict"].isna().all():
        figure, ax = new_figure(7.4, max(4.2, legend_height(len(looks))))
        _curves(ax, curves, looks)
        legend_right(ax)
        ax.set_title(title, loc="left")
        return figure
    judged = frame[frame["verdict"].notna()]
    methods = [m for m in in_order(rows) if m in set(judged["method"])]
    figure, (left, right) = new_figure(10.5, max(4.4, 1.6 + 0.27 * len(methods)), columns=2, ratios=(4, 3))
    _curves(left, curves, looks)
    left.set_title(title, loc="left")
    draw_verdicts(right, judged.to_dict("records"), methods, looks, LOSS.scale)
    reference = judged["reference"].iloc[0]
    right.set_xlabel(f"Mean loss minus that of {reference} (nats a token),\n95% interval; below 0 is better")
    method_axis(right, methods, f"Loss before training on a batch, against {reference}")
    figure.legend(handles=verdict_marks(), loc="outside lower center", ncols=4)
    return figure


def _curves(ax: Axes, curves: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    """Draw running means over a tenth of the steps: single batches differ by more than methods do."""
    crowded = curves["method"].nunique() > FEW
    window = max(1, int(curves.groupby("method")["step"].max().max()) // 10)
    for i, (method, curve) in enumerate(curves.groupby("method", sort=False)):
        smooth = curve.set_index("step")["loss"].rolling(window).mean().iloc[window - 1 :]
        if crowded and not roster.entry(curve["family"].iloc[0]).in_readme:
            ax.plot(smooth.index, smooth, color=OTHERS, linewidth=0.9, zorder=1)
        else:
            every = max(1, len(smooth) // 6)
            marked = (i * every // (FEW + 1) % every, every)  # those of two lines do not lie on each other
            look = looks[str(method)]
            ax.plot(smooth.index, smooth, label=method, linewidth=1.4, markersize=5, markevery=marked, **look)
    if crowded:
        ax.add_line(Line2D([], [], color=OTHERS, linewidth=0.9, label="all others"))
    ax.set_xlabel("Optimiser step")
    ax.set_ylabel(f"Training loss{f', running mean over {window} steps' if window > 1 else ''}")
    ax.legend(loc="best")
