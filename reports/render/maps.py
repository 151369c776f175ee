"""Maps of a model's blocks for the page: experts, sensitivity and router load, layers downwards, projections across."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from reports.analysis.groups import Group
from reports.figures.canvas import Rows
from reports.figures.heatmaps import expert_rows, scored_rows, sensitivity_rows
from reports.figures.routing import router_loads
from results.table import NOTHING, Table

LEVELS = 8  # colours of a map, `.l1` to `.l8` in page.css; 0 has none
UNEVEN = 4.0  # times an even share: the strongest colour of a router's busiest expert
ROUTER_COLUMNS = (
    "Method", "Routers", "Experts behind them", "Busiest expert, mean", "Busiest expert, highest", "Entropy", "Dead",
)  # fmt: skip
ROUTER_NOTE = (
    "Load: the share of a task's tokens that a router gives to an expert (its mean gate weight). Busiest expert: the "
    "largest load of a router as a multiple of an even share, 1 when all experts get the same, mean over tasks; mean "
    "and highest over the routers. Entropy: of the gate weights of a token, as a share of the largest possible. "
    "Dead: experts that get less than a tenth of an even share of a task's tokens, mean over tasks. First seed; the "
    f"records hold every load. In the maps the colour grows from 1 to {UNEVEN:g} times an even share."
)


@dataclass(frozen=True)
class HeatMap:
    """One map: a cell is (level of its colour, text), or None for a block without a number."""

    name: str
    about: str
    projections: tuple[str, ...]
    layers: tuple[tuple[int, tuple[tuple[int, str] | None, ...]], ...]
    quiet: bool = False  # numbers are shown in focus and in print alone


def expert_maps(group: Group) -> list[HeatMap]:
    """Experts of each block, a map a method."""
    rows = expert_rows(group)
    most = max([1, *(r["experts"] for r in rows)])
    made = []
    for method in dict.fromkeys(r["method"] for r in rows):
        own = [r for r in rows if r["method"] == method]
        used = sum(r["experts"] > 0 for r in own)
        about = f"{sum(r['experts'] for r in own):,} experts in {used:,} of {len(own):,} blocks"
        made.append(_heat_map(method, about, own, "experts", lambda v: math.ceil(LEVELS * v / most), str))
    return made


def sensitivity_maps(group: Group) -> dict[str, list[HeatMap]]:
    """Return {method: a map a task}, each method on one logarithmic scale."""
    made: dict[str, list[HeatMap]] = {}
    for row in scored_rows(group):
        rows = sensitivity_rows(group, row.label)
        positive = [math.log(r["sensitivity"]) for r in rows if r["sensitivity"] > 0]
        if not positive:
            continue
        low, width = min(positive), (max(positive) - min(positive)) or 1.0

        def level(value: float, low: float = low, width: float = width) -> int:
            return 1 + min(LEVELS - 1, int(LEVELS * (math.log(value) - low) / width)) if value > 0 else 0

        made[row.label] = []
        for task in dict.fromkeys(r["task"] for r in rows):
            own = [r for r in rows if r["task"] == task]
            top = max(own, key=lambda r: r["sensitivity"])
            about = f"highest: layer {top['layer']} {top['projection']}, {_brief(top['sensitivity'])}"
            made[row.label].append(_heat_map(task, about, own, "sensitivity", level, _brief, quiet=True))
    return made


def router_maps(group: Group) -> tuple[Table | None, list[HeatMap]]:
    """Return (a row a method with routers, a map for each): how unevenly the routers spread the tokens."""
    made, cells = [], []
    for row in group.finished:
        blocks = router_loads(row)
        if not blocks:
            continue
        rows = [r for r in blocks if r["experts"]]
        load = [r["busiest"] for r in rows]
        about = f"{len(rows):,} routers, busiest expert {float(np.mean(load)):.2f} times an even share on average"
        made.append(_heat_map(row.label, about, blocks, "busiest", _load_level, lambda v: f"{v:.2f}", quiet=True))
        entropy = [r["entropy"] for r in rows if r["entropy"] is not None]
        cells.append(
            (
                row.label, f"{len(rows):,}", f"{sum(r['experts'] for r in rows):,}", f"{float(np.mean(load)):.2f}",
                f"{max(load):.2f}", f"{float(np.mean(entropy)):.2f}" if entropy else NOTHING,
                f"{sum(r['dead'] for r in rows):,.0f}",
            )
        )  # fmt: skip
    return (Table("Routers by method", ROUTER_COLUMNS, tuple(cells), notes=(ROUTER_NOTE,)) if made else None), made


def _load_level(value: float) -> int:
    """1 for an even spread, the last colour from `UNEVEN` times an even share on."""
    return 1 + min(LEVELS - 1, int(LEVELS * math.log(max(value, 1.0)) / math.log(UNEVEN)))


def _brief(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _heat_map(
    name: str,
    about: str,
    rows: Rows,
    column: str,
    level: Callable[[Any], int],
    text: Callable[[Any], str],
    quiet: bool = False,
) -> HeatMap:
    layers, projections = ([*dict.fromkeys(r[key] for r in rows)] for key in ("layer", "projection"))
    values = {(r["layer"], r["projection"]): r[column] for r in rows}

    def cell(layer: int, projection: str) -> tuple[int, str] | None:
        value = values.get((layer, projection))
        return None if value is None else (level(value), text(value))

    cells = tuple((layer, tuple(cell(layer, p) for p in projections)) for layer in layers)
    return HeatMap(name, about, tuple(projections), cells, quiet)
