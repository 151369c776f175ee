"""How many documents of each task an optimiser step had: whether steps mix tasks."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from reports.analysis.groups import Group
from reports.figures.canvas import Rows, new_figure

COLUMNS = 40  # ranges of steps at most


def mixing_rows(group: Group) -> Rows:
    """Documents of each task a step, and different tasks a step, mean over ranges of steps.

    Of the first finished record that holds them: all methods of one seed have the same steps. None for adapters that
    are trained on one task each.
    """
    for record in (r for row in group.finished for r in row.done if r.spec.adapters != "per-task"):
        texts = {task: entry.get("step_documents") for task, entry in record.data.items() if isinstance(entry, dict)}
        counts = {task: [int(n) for n in text.split()] for task, text in texts.items() if text}
        if counts:
            return _ranges(record.spec.seed, counts)
    return []


def _ranges(seed: int, counts: dict[str, list[int]]) -> Rows:
    documents = np.array(list(counts.values()))  # (tasks, steps)
    rows: Rows = []
    for steps in np.array_split(np.arange(documents.shape[1]), min(COLUMNS, documents.shape[1])):
        tasks = float((documents[:, steps] > 0).sum(0).mean())
        for task, mean in zip(counts, documents[:, steps].mean(1).tolist(), strict=True):
            rows.append(
                {
                    "seed": seed, "first_step": int(steps[0]) + 1, "last_step": int(steps[-1]) + 1, "task": task,
                    "documents": mean, "tasks_a_step": tasks,
                }
            )  # fmt: skip
    return rows


def draw_mixing(rows: Rows, title: str) -> Figure:
    """Tasks downwards, steps across; the colour is the documents of a task in a step."""
    tasks = list(dict.fromkeys(r["task"] for r in rows))
    grid = np.array([r["documents"] for r in rows]).reshape(-1, len(tasks)).T
    sizes = [r["last_step"] - r["first_step"] + 1 for r in rows[:: len(tasks)]]
    mean = float(np.average([r["tasks_a_step"] for r in rows[:: len(tasks)]], weights=sizes))
    figure, ax = new_figure(7.4, 1.6 + 0.26 * len(tasks))
    edges = [0, *np.cumsum(sizes).tolist()]
    image = ax.pcolormesh(np.array(edges) + 0.5, np.arange(len(tasks) + 1) - 0.5, grid, cmap="Blues", vmin=0)
    ax.set_yticks(range(len(tasks)), tasks)
    ax.invert_yaxis()
    ax.grid(False)
    ax.set_xlabel("Optimiser step")
    ax.set_title(f"{title}: {mean:.1f} of {len(tasks)} tasks a step", loc="left")
    figure.colorbar(image, ax=ax, label="Documents of the task", shrink=0.9)
    return figure
