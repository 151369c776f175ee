"""Accuracy of every method on every task, and its paired difference to a reference, as one map."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reports.analysis.groups import Group
from reports.analysis.summary import Summary
from reports.figures import style
from reports.figures.canvas import Rows, in_order, new_figure
from reports.figures.style import points_text


def task_rows(group: Group) -> Rows:
    """Accuracy of each method and task, and its paired difference to the first reference.

    Without a reference it is the difference to the mean of all methods.
    """
    summaries = [s for s in group.summaries if s.tasks]
    mean = {task: float(np.mean([s.tasks[task][0] for s in summaries])) for task in group.tasks if summaries}
    compared_with = group.references
    paired = {c.row: c.tasks for c in group.compare(compared_with[0])} if compared_with else {}

    def difference(s: Summary, task: str) -> float:
        if not compared_with:
            return s.tasks[task][0] - mean[task]
        return 0.0 if s.row is compared_with[0] else paired[s.row][task][0]

    return [
        {
            "method": s.row.label, "task": task, "accuracy": s.tasks[task][0],
            "against": compared_with[0].label if compared_with else "mean of all", "difference": difference(s, task),
        }
        for s in summaries
        for task in group.tasks
    ]  # fmt: skip


def draw_tasks(rows: Rows, title: str) -> Figure:
    """Accuracies in percent, below each the difference in points (on the seeds in common).

    Colours show it too, but not its sign in grey.
    """
    methods, tasks = in_order(rows), list(dict.fromkeys(r["task"] for r in rows))
    differences = pd.DataFrame(rows).pivot(index="method", columns="task", values="difference")
    grid = 100 * differences.reindex(index=methods, columns=tasks).to_numpy()
    figure, ax = new_figure(2.6 + 0.72 * len(tasks), 1.6 + 0.36 * len(methods))
    limit = max(1.0, float(np.nanmax(np.abs(grid))))
    image = ax.imshow(grid, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
    for r in rows:
        x, y = tasks.index(r["task"]), methods.index(r["method"])
        text = f"{100 * r['accuracy']:.1f}"
        if r["method"] != r["against"]:
            text += f"\n{points_text(r['difference'])}"
        ax.text(x, y, text, ha="center", va="center", fontsize=7.5, color=style.ink(image.to_rgba(grid[y, x])))
    ax.set_xticks(range(len(tasks)), [t.replace("_", "\n") for t in tasks])
    ax.set_yticks(range(len(methods)), methods)
    ax.grid(False)
    ax.set_title(title, loc="left")
    against = rows[0]["against"]
    label = f"points above {against}{', on the seeds in common' if against in methods else ''}"
    figure.colorbar(image, ax=ax, label=label, shrink=0.9)
    return figure
