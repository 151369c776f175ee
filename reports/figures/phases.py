"""What a method costs in each phase: peak memory and wall-clock."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from reports.analysis.groups import Group
from reports.figures import style
from reports.figures.canvas import Rows, in_order, legend_right, method_axis, new_figure
from results.record import PHASES


def memory_rows(group: Group) -> Rows:
    """Peak memory of each phase, in the units of the record."""
    return _phase_rows(group, "peak_{}_bytes", "peak_bytes")


def draw_memory(rows: Rows, title: str) -> Figure:
    """Draw a line a method, a mark a phase."""
    methods = in_order(rows)
    figure, ax = new_figure(7.4, 1.3 + 0.27 * len(methods))
    peaks = _by_phase(rows, "peak_bytes") / 1e6
    ax.hlines(range(len(methods)), peaks.min(axis=1), peaks.max(axis=1), color="#BBBBBB", linewidth=1.2, zorder=1)
    for phase in PHASES:
        ax.plot(
            peaks[phase], range(len(methods)), linestyle="none",
            marker=style.PHASE_MARKERS[phase], color=style.PHASE_COLOURS[phase], markeredgecolor="#333333",
            markeredgewidth=0.6, markersize=7, label=phase,
        )  # fmt: skip
    ax.set_xlabel("Peak memory (MB = 10⁶ bytes), base model included")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    method_axis(ax, methods, title)
    legend_right(ax)
    return figure


def time_rows(group: Group) -> Rows:
    """Return wall-clock seconds of each phase, a row a method."""
    return _phase_rows(group, "{}_seconds", "wall_seconds")


def draw_time(rows: Rows, title: str) -> Figure:
    """Draw a bar a method, stacked by phase, with its total at the end."""
    methods = in_order(rows)
    figure, ax = new_figure(7.4, 1.3 + 0.27 * len(methods))
    seconds = _by_phase(rows, "wall_seconds").fillna(0)
    ends = seconds.cumsum(axis=1)
    for phase in PHASES:
        ax.barh(
            range(len(methods)), seconds[phase], left=ends[phase] - seconds[phase], height=0.72,
            color=style.PHASE_COLOURS[phase], edgecolor="white", linewidth=0.4, hatch=style.PHASE_HATCHES[phase],
            label=phase,
        )  # fmt: skip
    totals = seconds.sum(axis=1)
    for y, total in enumerate(totals):
        ax.annotate(f"{total:,.0f}", (total, y), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7)
    ax.set_xlim(0, totals.max() * 1.08)
    ax.set_xlabel("Wall-clock (s), by phase; the total at the end of the bar")
    method_axis(ax, methods, title)
    legend_right(ax)
    return figure


def _by_phase(rows: Rows, column: str) -> pd.DataFrame:
    """Pivot the plotted rows: a row a method, a column a phase, NaN for what was not measured."""
    pivoted = pd.DataFrame(rows).pivot(index="method", columns="phase", values=column)
    return pivoted.reindex(index=in_order(rows), columns=PHASES)


def _phase_rows(group: Group, metric: str, column: str) -> Rows:
    rows: Rows = []
    for s in group.summaries:
        if s.row.done:
            for phase in PHASES:
                if (value := s.metrics[metric.format(phase)]) is not None:
                    rows.append({"method": s.row.label, "phase": phase, column: value})
    return rows
