"""Maps of a model's blocks for the page: experts, sensitivity and router load, layers downwards, projections across."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.analysis.groups import Group
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
    for method, blocks in pd.DataFrame(rows).groupby("method", sort=False) if rows else ():
        experts = blocks["experts"]
        about = f"{experts.sum():,} experts in {(experts > 0).sum():,} of {len(blocks):,} blocks"
        made.append(
            _heat_map(method, about, blocks, "experts", lambda v: math.ceil(LEVELS * v / most), "{:.0f}".format)
        )
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
        for task, blocks in pd.DataFrame(rows).groupby("task", sort=False):
            top = blocks.loc[blocks["sensitivity"].idxmax()]
            about = f"highest: layer {top['layer']} {top['projection']}, {_brief(top['sensitivity'])}"
            made[row.label].append(_heat_map(task, about, blocks, "sensitivity", level, _brief, quiet=True))
    return made


def router_maps(group: Group) -> tuple[Table | None, list[HeatMap]]:
    """Return (a row a method with routers, a map for each): how unevenly the routers spread the tokens."""
    made, cells = [], []
    for row in group.finished:
        blocks = pd.DataFrame(router_loads(row))
        if blocks.empty:
            continue
        routers = blocks[blocks["experts"] > 0].astype({"busiest": float, "entropy": float, "dead": float})
        busiest, entropy = routers["busiest"], routers["entropy"].mean()
        about = f"{len(routers):,} routers, busiest expert {busiest.mean():.2f} times an even share on average"
        made.append(_heat_map(row.label, about, blocks, "busiest", _load_level, "{:.2f}".format, quiet=True))
        cells.append(
            (
                row.label, f"{len(routers):,}", f"{routers['experts'].sum():,}", f"{busiest.mean():.2f}",
                f"{busiest.max():.2f}", NOTHING if pd.isna(entropy) else f"{entropy:.2f}",
                f"{routers['dead'].sum():,.0f}",
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
    blocks: pd.DataFrame,
    column: str,
    level: Callable[[Any], int],
    text: Callable[[Any], str],
    quiet: bool = False,
) -> HeatMap:
    projections = tuple(blocks["projection"].unique())
    grid = blocks.pivot(index="layer", columns="projection", values=column)[[*projections]]

    def cell(value: Any) -> tuple[int, str] | None:
        return None if pd.isna(value) else (level(value), text(value))

    cells = tuple((int(layer), tuple(map(cell, values))) for layer, values in zip(grid.index, grid.values, strict=True))
    return HeatMap(name, about, projections, cells, quiet)
