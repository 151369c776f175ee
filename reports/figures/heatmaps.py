"""Heat maps over the model's blocks: sensitivity by task, experts and ranks by method, each by layer and projection.

Layer and projection come from the block's name alone ("model.layers.3.mlp.up_proj": the first number is the layer,
the last word the projection), so any model with numbered layers can be drawn.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import BoundaryNorm, LogNorm
from matplotlib.figure import Figure

from reports.analysis.groups import Group, Row
from reports.figures import style
from results.names import place

Rows = list[dict[str, Any]]
WIDEST = 18  # characters of a panel's name in one line


def places_in_map(blocks: Iterable[str]) -> dict[str, tuple[int, str]]:
    """(row, column) of every block in a map: its layer, -1 outside the layers, and its projection without "_proj".

    Where a layer has several projections of one name, as GPT-2 has two `c_proj`, the part before it tells them apart.
    """
    places = {block: place(block) for block in blocks}
    doubled = {projection for (_, projection), count in Counter(places.values()).items() if count > 1}
    return {
        block: (
            -1 if layer is None else layer,
            ".".join(block.split(".")[-2:]) if projection in doubled else projection.removesuffix("_proj"),
        )
        for block, (layer, projection) in places.items()
    }


def sensitivity_rows(group: Group, label: str) -> Rows:
    """Of the row's first seed: one dictionary a task and block."""
    facts = _facts(group, label, "sensitivity")
    return [
        {"task": task, "layer": layer, "projection": projection, "block": block, "sensitivity": float(value)}
        for task, blocks in facts.items()
        for block, value, layer, projection in _sorted_blocks(blocks)
    ]


def scored_rows(group: Group) -> list[Row]:
    """Return the rows with sensitivities; of several that measured the very same ones the first."""
    seen: list[dict[str, Any]] = []
    scored = []
    for row in group.finished:
        facts = _facts(group, row.label, "sensitivity")
        if facts and facts not in seen:
            seen.append(facts)
            scored.append(row)
    return scored


def expert_rows(group: Group) -> Rows:
    """Experts of every method that has them, from each row's first seed."""
    return _count_rows(group, "experts")


def rank_rows(group: Group) -> Rows:
    """Ranks at the end of every method that allocates them, from each row's first seed."""
    return _count_rows(group, "ranks")


def draw_sensitivity(rows: Rows, title: str) -> Figure:
    """Draw a panel a task, one logarithmic colour scale for all of them."""
    positive = [r["sensitivity"] for r in rows if r["sensitivity"] > 0]
    low, high = (min(positive), max(positive)) if positive else (0.1, 1.0)
    norm = LogNorm(low, high if high > low else low * 1.01)
    figure, axes, image = _panels(rows, "task", "sensitivity", norm, "cividis")
    figure.colorbar(image, ax=axes, label="Sensitivity (mean squared gradient norm), log scale", shrink=0.75, aspect=35)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


def draw_counts(rows: Rows, title: str, fact: str = "experts") -> Figure:
    """Draw a panel a method, one colour a number of experts, or of whatever `fact` names; 0 is white."""
    most = max(1, *(r[fact] for r in rows))
    bounds = np.arange(-0.5, most + 1)
    map_ = matplotlib.colormaps["cividis_r"].resampled(most + 1)
    colours = ["white", *(map_((i + 1) / (most + 1)) for i in range(most))]
    norm = BoundaryNorm(bounds, most + 1)
    discrete = matplotlib.colors.ListedColormap(colours)
    figure, axes, image = _panels(rows, "method", fact, norm, discrete, numbers=True)
    ticks = range(0, most + 1, max(1, most // 12))
    bar = figure.colorbar(image, ax=axes, label=fact.capitalize(), ticks=list(ticks), shrink=0.75, aspect=35)
    bar.minorticks_off()
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


def maps(group: Group) -> dict[str, tuple[Rows, Callable[[], Figure]]]:
    """{file stem: (plotted rows, how to draw them)}."""
    drawn: dict[str, tuple[Rows, Callable[[], Figure]]] = {}

    def sensitivity(label: str, stem: str) -> None:
        rows = sensitivity_rows(group, label)
        if rows:
            drawn[stem] = (rows, lambda: draw_sensitivity(rows, f"Sensitivity by task, layer and projection: {label}"))

    for row in scored_rows(group):
        slug = "".join(c if c.isalnum() or c in ".-" else "-" for c in row.label).strip("-")
        sensitivity(row.label, f"sensitivity-{slug}")
    experts, ranks = expert_rows(group), rank_rows(group)
    if experts:
        drawn["experts"] = (experts, lambda: draw_counts(experts, "Experts by layer and projection"))
    if ranks:
        drawn["ranks"] = (ranks, lambda: draw_counts(ranks, "Ranks by layer and projection", "ranks"))
    return drawn


def _count_rows(group: Group, fact: str) -> Rows:
    return [
        {"method": row.label, "layer": layer, "projection": projection, "block": block, fact: int(value)}
        for row in group.finished
        for block, value, layer, projection in _sorted_blocks(_facts(group, row.label, fact))
    ]


def _facts(group: Group, label: str, name: str) -> dict[str, Any]:
    row = next(r for r in group.finished if r.label == label)
    fact = row.done[0].facts.get(name)
    return dict(fact) if isinstance(fact, dict) else {}


def _sorted_blocks(blocks: dict[str, Any]) -> list[tuple[str, Any, int, str]]:
    """Blocks by layer; within a layer in the order the record has them."""
    places = places_in_map(blocks)
    parsed = [(name, value, *places[name]) for name, value in blocks.items() if value is not None]
    return sorted(parsed, key=lambda b: b[2])


def _broken(name: str) -> str:
    """Break a panel's name that is wider than the panel: before a bracket, or at the underscore nearest its middle."""
    if " (" in name or len(name) <= WIDEST or "_" not in name:
        return name.replace(" (", "\n(")
    middle = min((i for i, c in enumerate(name) if c == "_"), key=lambda i: abs(2 * i - len(name)))
    return f"{name[: middle + 1]}\n{name[middle + 1 :]}"


def _panels(
    rows: Rows, panel: str, column: str, norm: Any, colours: Any, numbers: bool = False
) -> tuple[Figure, Any, Any]:
    """One image per value of `panel`: layers downwards, projections across."""
    blocks = pd.DataFrame(rows)
    names, projections = blocks[panel].unique(), blocks["projection"].unique()
    layers = sorted(blocks["layer"].unique())
    by_panel = blocks.pivot(index=[panel, "layer"], columns="projection", values=column)
    across = min(len(names), 5 if len(names) in (5, 9, 10) or len(names) > 12 else 4)
    down = math.ceil(len(names) / across)
    cell = 0.125 if len(layers) > 12 else 0.2
    with matplotlib.rc_context(style.RC):
        height = 1.0 + down * (0.75 + cell * len(layers))
        figure = Figure(figsize=(1.5 + across * max(1.5, 0.245 * len(projections)), height), layout="constrained")
        axes = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    image: Any = None
    for ax, name in zip(axes.flat, names, strict=False):
        grid = by_panel.loc[name].reindex(index=layers, columns=projections).to_numpy(dtype=float)
        image = ax.imshow(np.ma.masked_invalid(grid), norm=norm, cmap=colours, aspect="auto", interpolation="nearest")
        ax.set_title(_broken(name), fontsize=8.5)
        ax.grid(False)
        ax.set_facecolor("#EEEEEE")  # a block that was not scored
        if numbers:
            for (y, x), value in np.ndenumerate(grid):
                if not math.isnan(value) and value > 0:
                    shade = style.ink(image.to_rgba(value))
                    ax.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=7, color=shade)
    for ax in list(axes.flat)[len(names) :]:
        ax.set_visible(False)
    for x, ax in enumerate(axes[0]):
        bottom = axes[max(d for d in range(down) if d * across + x < len(names))][x] if x < len(names) else ax
        bottom.set_xticks(range(len(projections)), projections, rotation=90)
        bottom.tick_params(labelbottom=True)
    for row in axes:
        row[0].set_ylabel("Layer")
        step = max(1, round(len(layers) / 8))
        row[0].set_yticks(range(0, len(layers), step), layers[::step])
    return figure, axes, image
