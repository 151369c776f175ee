"""The figure of a study and the numbers it shows: contrasts, curves over parameters, or agreement and its worth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import roster
from reports.analysis.measures import ACCURACY, Measure, values
from reports.analysis.study_answers import NO, YES, Answered, agreement_points
from reports.analysis.verdicts import margins
from reports.figures.canvas import method_axis, new_figure

COLOURS = {YES: "#0072B2", NO: "#D55E00"}  # undecided: grey
GREY = "#8a8a8a"


def contrast_frame(answered: Answered) -> pd.DataFrame:
    """Return a row a contrast, in the measure's own unit."""
    rows = [
        {
            "contrast": a.contrast.name, "kind": a.contrast.kind, "decides": a.contrast.decides, "value": a.value,
            "low": a.interval[0] if a.interval else None, "high": a.interval[1] if a.interval else None, "p": a.p,
            "word": a.word, "answer": a.answer, "seeds": a.seeds, "note": a.note,
        }
        for a in answered.answers
    ]  # fmt: skip
    return pd.DataFrame(rows)


def curve_frame(answered: Answered) -> pd.DataFrame:
    """Return a row an arm of a curve: its trainable parameters, and each measure in its unit, mean over its seeds."""
    rows: list[dict[str, Any]] = []
    for panel, curves in answered.study.curves.items():
        for curve, labels in curves.items():
            for label in labels:
                records = answered.arms[label]
                if not records or records[0].parameters is None:
                    continue
                row = {"panel": panel, "curve": curve, "arm": label, "seeds": len(records),
                       "trainable_params": records[0].parameters.trainable}  # fmt: skip
                for measure in measures_of(answered):
                    arrays = values([records], records[0].spec.trained_tasks, measure)
                    row[measure.name] = None if arrays is None else float(np.mean([a.mean() for a in arrays]))
                rows.append(row)
    return pd.DataFrame(rows, columns=["panel", "curve", "arm", "seeds", "trainable_params",
                                       *(m.name for m in measures_of(answered))])  # fmt: skip


def agreement_frame(answered: Answered) -> pd.DataFrame:
    """Return a row an importance: how far its allocations agree from seed to seed, and the measure after training."""
    rows = [
        {"importance": label, "agreement": agree, answered.measure.name: value}
        for answer in answered.agreements
        for label, (agree, value) in agreement_points(answer.contrast, answered.arms, answered.measure).items()
    ]
    return pd.DataFrame(rows, columns=["importance", "agreement", answered.measure.name])


def measures_of(answered: Answered) -> list[Measure]:
    """Return the declared measure and accuracy, each once."""
    return [answered.measure, *([ACCURACY] if answered.measure is not ACCURACY else [])]


def draw_contrasts(frame: pd.DataFrame, answered: Answered) -> Figure:
    """Draw every contrast with its interval; filled marks decide; the band is the declared margin."""
    figure, ax = new_figure(7.4, 1.4 + 0.29 * len(frame))
    scale, margin = answered.measure.scale, margins().get(answered.measure.name)
    if margin is not None:
        ax.axvspan(-scale * margin, scale * margin, color="#eeeeee", zorder=0)
    ax.axvline(0, color="#333333", linewidth=0.9)
    for y, row in enumerate(frame.to_dict("records")):
        colour = COLOURS.get(str(row["answer"]), GREY)
        if pd.notna(row["low"]):
            ax.plot([scale * row["low"], scale * row["high"]], [y, y], color=colour, linewidth=1.6)
        if pd.notna(row["value"]):
            face = colour if row["decides"] else "white"
            ax.plot(scale * row["value"], y, marker="o", color=colour, markerfacecolor=face, markersize=6)
    direction = "right" if answered.measure.higher else "left"
    unit = answered.measure.unit
    ax.set_xlabel(f"{answered.measure.label}, first minus second ({unit}); better to the {direction}")
    method_axis(ax, list(frame["contrast"]), "")
    figure.suptitle(_title(answered), x=0.01, ha="left", fontsize=10)
    return figure


def draw_curves(frame: pd.DataFrame, answered: Answered) -> Figure:
    """Draw every measure over trainable parameters, on a logarithmic axis; a column a panel, a row a measure."""
    panels, measures = list(answered.study.curves), measures_of(answered)
    figure, axes = new_figure(3.9 * len(panels), 2.7 * len(measures), len(panels), len(measures), share_y=False)
    grid = np.asarray(axes, dtype=object).reshape(len(measures), len(panels))
    for row, measure in enumerate(measures):
        for column, panel in enumerate(panels):
            ax: Axes = grid[row, column]
            part = frame[frame["panel"] == panel].dropna(subset=[measure.name])
            _curves(ax, part, measure)
            ax.set_xscale("log")
            ax.set_title(panel if row == 0 else "")
            ax.set_xlabel("trainable parameters" if row == len(measures) - 1 else "")
            unit = f" ({'%' if measure is ACCURACY else measure.unit})"
            ax.set_ylabel(f"{measure.label}{unit}" if column == 0 else "")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.suptitle(_title(answered), x=0.01, ha="left", fontsize=10)
    return figure


def _curves(ax: Axes, part: pd.DataFrame, measure: Measure) -> None:
    """Draw the curves of a panel; those whose names differ in a number alone have one look and one entry."""
    families = list(dict.fromkeys(str(name).rsplit(" ", 1)[0] for name in part["curve"]))
    named: set[str] = set()
    for name, points in part.groupby("curve", sort=False):
        family = str(name).rsplit(" ", 1)[0]
        several = family != name
        colour = GREY if several else roster.COLOURS[families.index(family) % len(roster.COLOURS)]
        marker = roster.MARKERS[families.index(family) % len(roster.MARKERS)]
        ordered = points.sort_values("trainable_params")
        ax.plot(ordered["trainable_params"], measure.scale * ordered[measure.name], color=colour, marker=marker,
                markersize=3 if several else 4, linewidth=0.7 if several else 1.3, zorder=1 if several else 2,
                label=None if family in named else family)  # fmt: skip
        named.add(family)


def draw_agreement(frame: pd.DataFrame, answered: Answered) -> Figure:
    """Draw the measure of every importance over its agreement."""
    figure, ax = new_figure(5.6, 3.6)
    measure = answered.measure
    for row in frame.to_dict("records"):
        x, y = row["agreement"], measure.scale * row[measure.name]
        ax.plot(x, y, marker="o", color=COLOURS[YES], linestyle="")
        ax.annotate(str(row["importance"]), (x, y), xytext=(5, 4), textcoords="offset points", fontsize=8)
    ax.margins(0.15)
    better = "up" if measure.higher else "down"
    ax.set_xlabel("rank correlation of two draws' allocations")
    ax.set_ylabel(f"{measure.label} ({measure.unit}); better is {better}")
    figure.suptitle(_title(answered), x=0.01, ha="left", fontsize=10)
    return figure


def _title(answered: Answered) -> str:
    return f"{answered.study.name}, size {answered.study.size}: {answered.answer}"
