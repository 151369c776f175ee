"""Differences to each reference with their intervals and verdicts: forest plots, a panel a reference or a measure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from reports.analysis.groups import Group
from reports.analysis.measures import ACCURACY, HEADLINES, Measure
from reports.analysis.stats import ALPHA
from reports.analysis.verdicts import BETTER, LOSS, WORSE, Judged, judge_rows, margins
from reports.figures import style
from reports.figures.canvas import Rows, method_axis, new_figure, size

REFERENCE = "reference"  # what stands in place of a verdict beside the row that the others are compared with

FAR = 6  # times the median reach of the intervals: a difference beyond it is written and not drawn


def forest_rows(group: Group) -> Rows:
    """Differences of accuracy to each reference with interval and verdict; fractions."""
    rows: Rows = []
    for comparisons in group.contrasts:
        reference, methods = comparisons[0].reference, [c.row.method for c in comparisons]
        rows += _panel(group, judge_rows(group.rows, group.tasks, reference, ACCURACY, methods))
    return rows


def measure_rows(group: Group) -> Rows:
    """Differences to the first reference in every measure that a verdict may rest on, each in its own unit."""
    rows: Rows = []
    for reference in group.references[:1]:
        by_measure = next((by for by in group.judged if next(iter(by.values()))[0].reference is reference), {})
        for judged in by_measure.values():
            rows += [{**row, "measure": judged[0].measure.name} for row in _panel(group, judged)]
    return rows if len({r["measure"] for r in rows}) > 1 else []


def _panel(group: Group, judged: Sequence[Judged]) -> Rows:
    """Return the rows of one panel, the reference's own among them."""
    rows = [{**judged_row(j), "order": group.rows.index(j.row)} for j in judged]
    return [*rows, {**reference_row(judged[0]), "order": group.rows.index(judged[0].reference)}] if rows else []


def judged_row(j: Judged) -> dict[str, Any]:
    """Return what a forest plot shows of a verdict, in the unit of its measure."""
    low, high = j.asked.interval() if j.asked else (None, None)
    inner_low, inner_high = j.asked.interval(1 - 2 * ALPHA) if j.asked else (None, None)
    return {
        "reference": j.reference.label, "method": j.row.label, "family": j.row.method, "difference": j.paired.value,
        "low": low, "high": high, "low_90": inner_low, "high_90": inner_high, "p_holm": j.p, "verdict": j.word,
        "margin": margins().get(j.measure.name),
    }  # fmt: skip


def reference_row(j: Judged) -> dict[str, Any]:
    """Return what a forest plot shows of the method that the others are compared with."""
    blank = dict.fromkeys(("low", "high", "low_90", "high_90", "p_holm"))
    own = {"method": j.reference.label, "family": j.reference.method, "difference": 0.0, "verdict": REFERENCE}
    return {**judged_row(j), **own, **blank}


def draw_forest(rows: Rows, title: str) -> Figure:
    """Draw a panel a reference, all on one scale, with the verdicts in words."""
    names = list(dict.fromkeys(r["reference"] for r in rows))
    panels = [
        (ACCURACY, [r for r in rows if r["reference"] == name], f"Against {name}",
         f"Accuracy minus that of {name}\n(points), 95% interval")
        for name in names
    ]  # fmt: skip
    return _draw_panels(panels, rows, title, share_x=True)


def draw_measures(rows: Rows, title: str) -> Figure:
    """Draw a panel a measure, each on its own scale, with the verdicts in words."""
    panels = []
    for measure in (*HEADLINES, LOSS):
        if shown := [r for r in rows if r["measure"] == measure.name]:
            told = f"{measure.unit}; {'higher' if measure.higher else 'lower'} is better"
            panels.append((measure, shown, measure.label, f"Minus that of {shown[0]['reference']}\n({told})"))
    return _draw_panels(panels, rows, title, share_x=False)


def _draw_panels(panels: Sequence[tuple[Measure, Rows, str, str]], rows: Rows, title: str, share_x: bool) -> Figure:
    """Draw panels (measure, its rows, title, label of its axis) side by side over the methods of all rows."""
    methods = [r["method"] for r in sorted({r["method"]: r for r in rows}.values(), key=lambda r: r["order"])]
    looks = style.looks({r["method"]: r["family"] for r in rows}.items())
    size_of = (
        max(7.4, 2.6 + 2.8 * len(panels)),
        (1.9 if len(panels) > 1 else 2.1) + 0.29 * len(methods),
    )  # the legend needs the width
    figure, axes = new_figure(*size_of, columns=len(panels), share_x=share_x, share_y=True)
    for ax, (measure, shown, name, label) in zip(np.atleast_1d(axes), panels, strict=True):
        draw_verdicts(ax, shown, methods, looks, measure.scale)
        ax.set_xlabel(label)
        method_axis(ax, methods, name)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    figure.legend(handles=verdict_marks(), loc="outside lower center", ncols=4 if len(panels) > 1 else 2)
    return figure


def draw_verdicts(
    ax: Axes, rows: Sequence[Mapping[str, Any]], methods: list[str], looks: dict[str, dict[str, Any]], scale: float
) -> None:
    """Draw each row's difference times `scale` with its interval and its verdict in words; the margin as a band."""
    ax.axvline(0, color="#333333", linewidth=0.9)
    if rows and pd.notna(margin := rows[0]["margin"]):
        ax.axvspan(-scale * margin, scale * margin, color="#E8E8E8", zorder=0)
    reach = [max(abs(r["low"]), abs(r["high"])) for r in rows if pd.notna(r["low"])] or [math.inf]
    for r in rows:
        y, look = methods.index(r["method"]), looks[r["method"]]
        if abs(r["difference"]) > FAR * np.median(reach):  # its place is written: an axis up to it would hide the rest
            right, number = r["difference"] > 0, f"{scale * r['difference']:+.3g}".replace("-", "−")
            ax.annotate(
                f"{number} →" if right else f"← {number}", (0.98 if right else 0.02, y), va="center", fontsize=8,
                xycoords=ax.get_yaxis_transform(), ha="right" if right else "left", color=look["color"],
            )  # fmt: skip
            _word(ax, r["verdict"], y)
            continue
        for low, high, width in (("low", "high", 1.2), ("low_90", "high_90", 3.2)):
            if pd.notna(r[low]):
                ends = [scale * r[low], scale * r[high]]
                ax.plot(ends, [y, y], color=look["color"], linewidth=width, solid_capstyle="butt")
        face = look["color"] if r["verdict"] in (BETTER, WORSE) else "white"
        marks = {"color": look["color"], "marker": look["marker"], "markersize": size(look, 7)}
        ax.plot(scale * r["difference"], y, markerfacecolor=face, **marks)
        _word(ax, r["verdict"], y)
    ax.margins(x=0.08)  # no interval ends on the frame
    ax.xaxis.set_major_locator(MaxNLocator(5))


def _word(ax: Axes, word: str, y: int) -> None:
    """Write a verdict to the right of its row, in bold where it says that there is a difference."""
    weight = "bold" if word in (BETTER, WORSE) else "normal"
    ax.annotate(
        word, (1, y), xycoords=ax.get_yaxis_transform(), xytext=(4, 0), textcoords="offset points", va="center",
        fontsize=8, weight=weight, color="#333333",
    )  # fmt: skip


def verdict_marks() -> list[Line2D | Patch]:
    """Return the legend of `draw_verdicts`."""
    marks: list[Line2D | Patch] = [
        Line2D([], [], color="#555555", marker="o", markerfacecolor=face, label=label)
        for face, label in (("#555555", "better or worse"), ("white", "equivalent or undecided"))
    ]
    interval = Line2D([], [], color="#555555", linewidth=3.2, label="90% interval (thin: 95%)")
    return [*marks, interval, Patch(color="#E8E8E8", label="margin, too small to matter: equivalent inside")]
