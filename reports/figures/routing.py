"""Router load by task: which expert gets how much of each task's tokens, in every block that has a router.

The load of an expert is its mean gate over a task's tokens (`smoe/diagnostics.py`). Experts of different blocks have
nothing in common, so loads are never averaged over blocks: every block of every task is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from reports.analysis.groups import Group, Row
from reports.figures import style
from reports.figures.canvas import Rows
from reports.figures.heatmaps import parse_block

_CELL = 120  # pixels of a block: most numbers of experts divide it
_GAP = 12  # of them left empty between two layers
_INSIDE = 98  # percent of the loads that the colours tell apart: the few beyond, often far, would turn the rest grey
_LEAST = 0.1  # powers of two that the colours reach at least: noise stays pale
_MOST = 2.0  # ... and at most: an expert that nothing reaches is far beyond them, and would turn all others grey


def routing_rows(row: Row) -> Rows:
    """Of the row's first seed: one dictionary a task and block; `load` holds the experts' shares in their order.

    A block without a router, since it has no second expert, has no load.
    """
    facts = row.done[0].facts if row.done else {}
    found = facts.get("router") or {}
    rows: Rows = []
    for task, blocks in found.items() if any(found.values()) else ():
        for block in sorted({**(facts.get("experts") or {}), **blocks}, key=lambda name: parse_block(name)[0]):
            layer, projection = parse_block(block)
            entry = blocks.get(block, {"load": ()})
            load = " ".join(f"{value:.4g}" for value in entry["load"])
            rows.append(
                {
                    "task": task, "layer": layer, "projection": projection, "block": block, "load": load,
                    "entropy": entry.get("entropy"), "dead": entry.get("dead"),
                }
            )  # fmt: skip
    return rows


def draw_routing(rows: Rows, title: str) -> Figure:
    """A panel a projection, a line a task; each layer's cell is divided among its experts. Lighter is more."""
    tasks, layers, projections = ([*dict.fromkeys(r[name] for r in rows)] for name in ("task", "layer", "projection"))
    grids = {p: np.full((len(tasks), len(layers) * _CELL), np.nan) for p in projections}
    for r in [r for r in rows if r["load"]]:
        load = np.array([float(x) for x in r["load"].split()])
        start = layers.index(r["layer"]) * _CELL
        width = _CELL - _GAP
        expert = np.arange(width) * len(load) // width
        share = load * len(load) / max(load.sum(), 1e-12)
        grids[r["projection"]][tasks.index(r["task"]), start : start + width] = np.log2(np.maximum(share, 1e-3))[expert]
    deviations = np.abs(np.stack([*grids.values()]))
    limit = min(_MOST, max(_LEAST, float(np.nanpercentile(deviations, _INSIDE))))
    with matplotlib.rc_context(style.RC):
        size = (9.5, 1.2 + len(projections) * (0.35 + 0.13 * len(tasks)))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(len(projections), 1, squeeze=False, sharex=True)[:, 0]
    colours = matplotlib.colormaps["cividis"].with_extremes(bad="white")
    image: Any = None
    for ax, projection in zip(axes, projections, strict=True):
        extent = (-0.5, len(layers) - 0.5, len(tasks) - 0.5, -0.5)
        image = ax.imshow(
            np.ma.masked_invalid(grids[projection]), cmap=colours, vmin=-limit, vmax=limit, aspect="auto",
            interpolation="nearest", extent=extent,
        )  # fmt: skip
        ax.set_yticks(range(len(tasks)), tasks, fontsize=7.5)
        ax.set_ylabel(projection)
        ax.grid(False)
    step = max(1, round(len(layers) / 15))
    centre = -_GAP / _CELL / 2
    axes[-1].set_xticks([x + centre for x in range(0, len(layers), step)], layers[::step])
    axes[-1].set_xlabel("Layer; within a layer its experts, white: no router, since there is no second expert")
    bar = figure.colorbar(image, ax=list(axes), shrink=0.6, aspect=40, extend="both")
    powers = [limit * part for part in (-1, -0.5, 0, 0.5, 1)]
    bar.set_ticks(powers, labels=[f"{2.0**p:.2f}" for p in powers])
    bar.set_label("Load as a multiple of an even share\n(the few beyond the ends have the ends' colours)")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


def routing(group: Group) -> dict[str, tuple[Rows, Callable[[], Figure]]]:
    """{file stem: (plotted rows, how to draw them)}, one for each method that has routers."""
    found: dict[str, tuple[Rows, Callable[[], Figure]]] = {}

    def add(row: Row) -> None:
        if rows := routing_rows(row):
            slug = "".join(c if c.isalnum() or c in ".-" else "-" for c in row.label).strip("-")
            found[f"routing-{slug}"] = (rows, lambda: draw_routing(rows, f"Router load by task: {row.label}"))

    for row in group.finished:
        add(row)
    return found
