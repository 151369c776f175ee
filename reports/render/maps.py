"""Maps of a model's blocks for the page: experts, sensitivity and router load, layers downwards, projections across."""

from __future__ import annotations

import html
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from reports.analysis.groups import Group
from reports.figures.canvas import Rows
from reports.figures.heatmaps import expert_rows, scored_rows, sensitivity_rows
from reports.figures.routing import router_loads
from reports.render.table import html_table
from results.table import NOTHING, Table

_SCALE = "The stronger a colour stands out from the page, the more."
_LEVELS = 8  # colours of a map, `.l1` to `.l8` in page.css
_UNEVEN = 4.0  # times an even share: the strongest colour of a router's busiest expert
ROUTER_COLUMNS = (
    "Method", "Routers", "Experts behind them", "Busiest expert, mean", "Busiest expert, highest", "Entropy", "Dead",
)  # fmt: skip
ROUTER_NOTE = (
    "Load: the share of a task's tokens that a router gives to an expert (its mean gate weight). Busiest expert: the "
    "largest load of a router as a multiple of an even share, 1 when all experts get the same, mean over tasks; mean "
    "and highest over the routers. Entropy: of the gate weights of a token, as a share of the largest possible. "
    "Dead: experts that get less than a tenth of an even share of a task's tokens, mean over tasks. First seed; the "
    f"records hold every load. In the maps the colour grows from 1 to {_UNEVEN:g} times an even share."
)


def expert_maps(group: Group) -> str:
    rows = expert_rows(group)
    if not rows:
        return ""
    most = max(1, *(r["experts"] for r in rows))
    found = []
    for method in dict.fromkeys(r["method"] for r in rows):
        own = [r for r in rows if r["method"] == method]
        used = sum(r["experts"] > 0 for r in own)
        about = f"{sum(r['experts'] for r in own):,} experts in {used:,} of {len(own):,} blocks"
        found.append(_heat_map(method, about, own, "experts", lambda v: math.ceil(_LEVELS * v / most), str))
    note = f"Experts of each block, layers downwards and projections across, first seed. {_SCALE}"
    return f'<p class="note">{note}</p>\n<div class="maps">\n{"".join(found)}</div>'


def sensitivity_maps(group: Group) -> str:
    found = []
    for row in scored_rows(group):
        rows = sensitivity_rows(group, row.label)
        positive = [math.log(r["sensitivity"]) for r in rows if r["sensitivity"] > 0]
        if not positive:
            continue
        low, width = min(positive), (max(positive) - min(positive)) or 1.0

        def level(value: float, low: float = low, width: float = width) -> int:
            return 1 + min(_LEVELS - 1, int(_LEVELS * (math.log(value) - low) / width)) if value > 0 else 0

        found.append(f'<h4>{html.escape(row.label)}</h4>\n<div class="maps">\n')
        for task in dict.fromkeys(r["task"] for r in rows):
            own = [r for r in rows if r["task"] == task]
            top = max(own, key=lambda r: r["sensitivity"])
            about = f"highest: layer {top['layer']} {top['projection']}, {_brief(top['sensitivity'])}"
            found.append(_heat_map(task, about, own, "sensitivity", level, _brief, "quiet"))
        found.append("</div>\n")
    note = (
        f"Mean squared gradient norm of each block by task, first seed, one logarithmic scale. {_SCALE} "
        "A map that is clicked, or reached with the Tab key, shows its numbers."
    )
    return f'<p class="note">{note}</p>\n{"".join(found)}' if found else ""


def router_maps(group: Group) -> str:
    """A map a method with routers: how unevenly each router spreads the tokens, and a table over its routers."""
    shown, cells = [], []
    for row in group.finished:
        rows = router_loads(row)
        if not rows:
            continue
        load = [r["busiest"] for r in rows]
        dead, experts = sum(r["dead"] for r in rows), sum(r["experts"] for r in rows)
        about = f"{len(rows):,} routers, busiest expert {float(np.mean(load)):.2f} times an even share on average"
        shown.append(_heat_map(row.label, about, rows, "busiest", _load_level, lambda v: f"{v:.2f}", "quiet"))
        entropy = [r["entropy"] for r in rows if r["entropy"] is not None]
        cells.append(
            (
                row.label, f"{len(rows):,}", f"{experts:,}", f"{float(np.mean(load)):.2f}", f"{max(load):.2f}",
                f"{float(np.mean(entropy)):.2f}" if entropy else NOTHING, f"{dead:,.0f}",
            )
        )  # fmt: skip
    if not shown:
        return ""
    table = Table("Routers by method", ROUTER_COLUMNS, tuple(cells), notes=(ROUTER_NOTE,))
    return f'{html_table(table, kind="methods sortable")}\n<div class="maps">\n{"".join(shown)}</div>'


def _load_level(value: float) -> int:
    """1 for an even spread, the last colour from `_UNEVEN` times an even share on."""
    return 1 + min(_LEVELS - 1, int(_LEVELS * math.log(max(value, 1.0)) / math.log(_UNEVEN)))


def _brief(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _heat_map(
    name: str,
    about: str,
    rows: Rows,
    column: str,
    level: Callable[[Any], int],
    text: Callable[[Any], str],
    kind: str = "",
) -> str:
    """A table of layers by projections; a cell holds its number, which a quiet map shows in focus and in print."""
    layers, projections = ([*dict.fromkeys(r[key] for r in rows)] for key in ("layer", "projection"))
    values = {(r["layer"], r["projection"]): r[column] for r in rows}
    head = "".join(f'<th scope="col">{html.escape(p)}</th>' for p in projections)
    body = []
    for layer in layers:
        cells = ""
        for value in (values.get((layer, p)) for p in projections):
            inside = "" if value is None else f"<span>{text(value)}</span>" if kind else text(value)
            cells += '<td class="none"></td>' if value is None else f'<td class="l{level(value)}">{inside}</td>'
        body.append(f'<tr><th scope="row">{layer}</th>{cells}</tr>')
    label = html.escape(f"{name}: {about}")
    return (
        f"<figure><figcaption><strong>{html.escape(name)}</strong> {html.escape(about)}</figcaption>\n"
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table class="heat {kind}">'
        f'<thead><tr><th scope="col">layer</th>{head}</tr></thead>\n<tbody>{"".join(body)}</tbody></table></div>'
        "</figure>\n"
    )
