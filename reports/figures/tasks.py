"""Accuracy of every method on every task, and its difference to a reference, as one map."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reports.analysis.groups import Group
from reports.figures import style
from reports.figures.canvas import Rows, in_order, new_figure
from reports.figures.style import points_text

MEAN = "the mean of all"


def task_rows(group: Group) -> Rows:
    """Accuracy of each method and task as the main table has it, and how far it lies above the first reference's.

    Both are means over the row's own seeds, so that a difference is always that of the two numbers shown; the tests,
    on seeds in common, are elsewhere. Without a reference it is the difference to the mean of all methods.
    """
    summaries = [s for s in group.summaries if s.tasks]
    reference = next((s for row in group.references[:1] for s in summaries if s.row is row), None)
    base = {
        task: float(np.mean([s.tasks[task][0] for s in ([reference] if reference else summaries)]))
        for task in (group.tasks if summaries else ())
    }
    return [
        {
            "method": s.row.label, "seeds": " ".join(map(str, s.row.seeds)), "task": task,
            "accuracy": s.tasks[task][0], "against": reference.row.label if reference else MEAN,
            "difference": s.tasks[task][0] - base[task],
        }
        for s in summaries
        for task in group.tasks
    ]  # fmt: skip


def draw_tasks(rows: Rows, title: str) -> Figure:
    """Accuracies in percent, below each the difference in points: colours show it too, but not its sign in grey.

    Methods stand below each other, or the tasks where those are many.
    """
    frame = pd.DataFrame(rows)
    methods, tasks = in_order(rows), list(dict.fromkeys(r["task"] for r in rows))
    grid = 100 * frame.pivot(index="method", columns="task", values="difference").reindex(methods)[tasks].to_numpy()
    seeds = frame.groupby("method")["seeds"].first().str.replace(" ", ", ")
    usual = seeds.mode().iloc[0]
    names = [m if seeds[m] == usual else f"{m}\n(seeds {seeds[m]})" for m in methods]
    upright = len(tasks) > max(12, len(methods))
    across, down = (names, tasks) if upright else ([t.replace("_", "\n") for t in tasks], names)
    figure, ax = new_figure(3.2 + (0.9 if upright else 0.72) * len(across), 1.6 + 0.36 * len(down))
    limit = max(1.0, float(np.nanmax(np.abs(grid))))
    shown = grid.T if upright else grid
    image = ax.imshow(shown, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
    for r in rows:
        x, y = tasks.index(r["task"]), methods.index(r["method"])
        text = f"{100 * r['accuracy']:.1f}"
        if r["method"] != r["against"]:
            text += f"\n{points_text(r['difference'])}"
        colour = style.ink(image.to_rgba(grid[y, x]))
        ax.text(*((y, x) if upright else (x, y)), text, ha="center", va="center", fontsize=7.5, color=colour)
    ax.set_xticks(range(len(across)), across)
    ax.set_yticks(range(len(down)), down)
    ax.grid(False)
    ax.set_title(title if seeds.nunique() == 1 else f"{title}; seed {usual} where no others are named", loc="left")
    figure.colorbar(image, ax=ax, label=f"points above {rows[0]['against']}", shrink=0.9)
    return figure
