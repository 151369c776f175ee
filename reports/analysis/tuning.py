"""Learning rates that were chosen on held-out training documents: what each rate gave, which won, and the cost."""

from __future__ import annotations

from typing import Any

from reports.analysis import stats
from reports.analysis.groups import Group
from results.metrics import macro_accuracy, wall_seconds
from results.record import Record
from results.table import NOTHING, Table
from results.tuning import best, grid_id


def tuning_rows(group: Group) -> list[dict[str, Any]]:
    """One row a job of a grid: fractions and seconds, `chosen` 1 for the rate that won."""
    grids: dict[str, list[Record]] = {}
    for record in group.tuning:
        grids.setdefault(grid_id(record.spec), []).append(record)
    labels = {grid_id(r.spec): row.label for row in group.rows for r in (*row.done, *row.failed)}
    rows = []
    for name, records in grids.items():
        winner = best(records)
        for record in sorted(records, key=lambda r: r.spec.learning_rate):
            errors = [score.stderr for score in (record.scores or {}).values()]
            rows.append(
                {
                    "method": labels.get(name, record.spec.method),
                    "learning_rate": record.spec.learning_rate,
                    "held_out_macro_accuracy": macro_accuracy(record),
                    "stderr": stats.macro_standard_error(errors),
                    "chosen": int(record is winner),
                    "total_seconds": wall_seconds(record),
                    "status": record.status,
                    "record": record.key,
                }
            )
    return rows


def tuning_table(group: Group) -> list[Table]:
    """A row a method, a column a rate; nothing where no rate was chosen."""
    rows = tuning_rows(group)
    if not rows:
        return []
    rates = sorted({r["learning_rate"] for r in rows})
    cells, bold = [], set()
    for i, method in enumerate(dict.fromkeys(r["method"] for r in rows)):
        own = {r["learning_rate"]: r for r in rows if r["method"] == method}
        bold |= {(i, 1 + rates.index(rate)) for rate, r in own.items() if r["chosen"]}
        chosen = [f"{rate:g}" for rate, r in own.items() if r["chosen"]]
        seconds = [r["total_seconds"] for r in own.values() if r["total_seconds"] is not None]
        cells.append(
            (method, *(_cell(own.get(rate)) for rate in rates), *(chosen or [NOTHING]), f"{sum(seconds):,.1f}")
        )
    counts = sorted({sum(s.count for s in r.scores.values()) for r in group.tuning if r.scores})
    documents = " or ".join(f"{n:,}" for n in counts) or "no"
    notes = (
        f"Macro mean (%) on {documents} held-out training documents, ± one standard error; no evaluation document was "
        "seen. Bold: chosen; the lower rate of two that tie. Cost: wall-clock of the whole grid.",
    )
    columns = ("Method", *(f"{rate:g}" for rate in rates), "Chosen", "Grid (s)")
    return [Table(f"Learning rates: {group.title}", columns, tuple(cells), bold=frozenset(bold), notes=notes)]


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return NOTHING
    if row["held_out_macro_accuracy"] is None:
        return row["status"]
    error = "" if row["stderr"] is None else f" ± {100 * row['stderr']:.1f}"
    return f"{100 * row['held_out_macro_accuracy']:.1f}{error}"
