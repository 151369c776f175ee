"""Every figure of a group: each drawn from a plain list of rows, which is written as CSV beside it.

A figure is a pair: `<name>_rows(group)` decides the numbers, `draw_<name>(rows)` puts exactly those on paper. So what
is checked (the CSV) is what is shown. A figure with no rows is left out. Maps over layers are in heatmaps.py.
"""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.figure import Figure

from reports import roster
from reports.analysis.groups import Group
from reports.figures.canvas import Rows
from reports.figures.forest import draw_forest, draw_measures, forest_rows, measure_rows
from reports.figures.loss import draw_loss, loss_rows
from reports.figures.mixing import draw_mixing, mixing_rows
from reports.figures.phases import draw_memory, draw_time, memory_rows, time_rows
from reports.figures.tasks import draw_tasks, task_rows
from reports.figures.tradeoff import TRADE_OFFS, draw_trade_off, trade_off_rows


def figures(group: Group) -> dict[str, tuple[Rows, Callable[[], Figure]]]:
    """{file stem: (plotted rows, how to draw them)} of every figure that has something to show."""
    drawn: dict[str, tuple[Rows, Callable[[], Figure]]] = {}

    def add(name: str, rows: Rows, draw: Callable[[], Figure]) -> None:
        if rows:
            drawn[name] = (rows, draw)

    def trade_off(cost: str, label: str, stem: str) -> None:
        rows = trade_off_rows(group, cost)
        short = label.split(" (")[0].lower()
        add(stem, rows, lambda: draw_trade_off(rows, cost, f"Accuracy against {short}"))

    for cost, (label, stem) in TRADE_OFFS.items():
        trade_off(cost, label, stem)
    memory, time, loss = memory_rows(group), time_rows(group), loss_rows(group)
    forest, tasks, mixing = forest_rows(group), task_rows(group), mixing_rows(group)
    measured = measure_rows(group)
    controls = [r for r in forest if r["reference"] in roster.controls()]
    forest = [r for r in forest if r not in controls]
    add("memory", memory, lambda: draw_memory(memory, "Peak memory by phase"))
    add("time", time, lambda: draw_time(time, "Wall-clock by phase"))
    add("loss", loss, lambda: draw_loss(loss, "Training loss"))
    add("mixing", mixing, lambda: draw_mixing(mixing, "Tasks in each optimiser step"))
    add("differences", forest, lambda: draw_forest(forest, "Paired differences of the macro mean"))
    add("learning", measured, lambda: draw_measures(measured, "What is decided, measure by measure (Holm-adjusted)"))
    add("controls", controls, lambda: draw_forest(controls, "Chance: does the allocation matter? Paired differences"))
    add("tasks", tasks, lambda: draw_tasks(tasks, "Accuracy by task (%)"))
    return drawn
