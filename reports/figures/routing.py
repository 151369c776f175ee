"""Router load of every block that has a router: which expert gets how much of each task's tokens.

The load of an expert is its mean gate weight over a task's tokens (`smoe/diagnostics.py`). Experts of different blocks
have nothing in common, so loads are never averaged over blocks.
"""

from __future__ import annotations

import numpy as np

from reports.analysis.groups import Row
from reports.figures.canvas import Rows
from reports.figures.heatmaps import places_in_map


def router_loads(row: Row) -> Rows:
    """Of the row's first seed: one dictionary a block, by layer, its numbers means over tasks; empty without a router.

    `busiest` is the largest load of an expert as a multiple of an even share, 1 or more; `dead` the number of experts
    that get less than a tenth of an even share. A block without a router, since it has no second expert, has None for
    all three.
    """
    facts = row.done[0].facts if row.done else {}
    by_task = facts.get("router") or {}
    blocks = dict.fromkeys([*(facts.get("experts") or {}), *(name for routers in by_task.values() for name in routers)])
    rows: Rows = []
    places = places_in_map(blocks)
    for block in sorted(blocks, key=lambda name: places[name][0]):
        entries = [routers[block] for routers in by_task.values() if block in routers]
        loads = [np.array(entry["load"], dtype=float) for entry in entries if len(entry["load"])]
        layer, projection = places[block]
        if not loads:
            nothing = dict.fromkeys(("busiest", "entropy", "dead"))
            rows.append({"layer": layer, "projection": projection, "block": block, "experts": 0, **nothing})
            continue
        entropies = [entry["entropy"] for entry in entries if entry.get("entropy") is not None]
        rows.append(
            {
                "layer": layer, "projection": projection, "block": block, "experts": len(loads[0]),
                "busiest": float(np.mean([load.max() * len(load) / max(load.sum(), 1e-12) for load in loads])),
                "entropy": float(np.mean(entropies)) if entropies else None,
                "dead": float(np.mean([entry.get("dead") or 0 for entry in entries])),
            }
        )  # fmt: skip
    return rows if any(r["experts"] for r in rows) else []
