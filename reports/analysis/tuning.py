"""Learning rates that were chosen on held-out training documents: what each rate gave, which won, and the cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from reports.analysis.groups import Group
from results.metrics import wall_seconds
from results.record import Record
from results.table import NOTHING, Table
from results.tuning import best, beyond_edge, grid_id, held_out_measure

NAMES = {"bits_per_byte": "Bits per byte of the right answer", "macro_accuracy": "Macro mean"}


def tuning_rows(group: Group) -> list[dict[str, Any]]:
    """Return a row a job of a grid: what it measured, its seconds, whether its rate won (`chosen` 1).

    `edge` is 1 where the chosen rate is the lowest or the highest that was tried.
    """
    labels = _labels(group)
    any_rate = {name: label for (name, _), label in labels.items()}
    rows = []
    for name, records in _grids(group).items():
        winner = best(records)
        label = labels.get((name, winner.spec.learning_rate if winner else None), any_rate.get(name))
        for record in sorted(records, key=lambda r: r.spec.learning_rate):
            measure, value = held_out_measure(record) or (None, None)
            rows.append(
                {
                    "method": label or record.spec.method,
                    "learning_rate": record.spec.learning_rate,
                    "measure": measure,
                    "held_out": value,
                    "chosen": int(record is winner),
                    "edge": int(record is winner and beyond_edge(records, record) is not None),
                    "total_seconds": wall_seconds(record),
                    "status": record.status,
                    "record": record.key,
                }
            )
    return rows


def tuned_rows(group: Group) -> set[str]:
    """Labels of the rows that are at the learning rate which a grid chose for them."""
    winners = [winner.spec for records in _grids(group).values() if (winner := best(records)) is not None]
    labels = _labels(group)
    return {labels[place] for spec in winners if (place := (grid_id(spec), spec.learning_rate)) in labels}


def _grids(group: Group) -> dict[str, list[Record]]:
    grids: dict[str, list[Record]] = {}
    for record in group.tuning:
        grids.setdefault(grid_id(record.spec), []).append(record)
    return grids


def _labels(group: Group) -> dict[tuple[str, float | None], str]:
    """{(grid, learning rate): label of the row that is at it}."""
    jobs = ((row.label, r.spec) for row in group.rows for r in (*row.done, *row.failed))
    return {(grid_id(spec), spec.learning_rate): label for label, spec in jobs}


def tuning_table(group: Group) -> list[Table]:
    """Return a row a method, a column a rate; nothing where no rate was chosen."""
    rows = tuning_rows(group)
    if not rows:
        return []
    frame = pd.DataFrame(rows)
    rates = sorted(frame["learning_rate"].unique())
    cells, bold = [], set()
    for i, (method, jobs) in enumerate(frame.groupby("method", sort=False)):
        by_rate = jobs.set_index("learning_rate")
        bold |= {(i, 1 + rates.index(rate)) for rate in by_rate.index[by_rate["chosen"] == 1]}
        chosen = [
            f"{rate:g}{' (edge)' if job['edge'] else ''}" for rate, job in by_rate[by_rate.chosen == 1].iterrows()
        ]
        shown = [_cell(by_rate.loc[rate]) if rate in by_rate.index else NOTHING for rate in rates]
        cells.append((method, *shown, *(chosen or [NOTHING]), f"{jobs['total_seconds'].sum():,.1f}"))
    columns = ("Method", *(f"{rate:g}" for rate in rates), "Chosen", "Grid (s)")
    notes = (_note(group, list(frame["measure"].dropna().unique())),)
    return [Table(f"Learning rates: {group.title}", columns, tuple(cells), bold=frozenset(bold), notes=notes)]


def _note(group: Group, measures: Sequence[str]) -> str:
    counts = sorted({sum(s.count for s in r.scores.values()) for r in group.tuning if r.scores})
    documents = " or ".join(f"{n:,}" for n in counts) or "no"
    measured = " or ".join(NAMES[name] for name in measures) or "Nothing"
    return (
        f"{measured} on {documents} held-out training documents, after training on a quarter of the run's; no "
        "evaluation document was seen. Bold: chosen; the lower rate of two that tie. Edge: the best rate is the lowest "
        "or the highest that was tried. Cost: wall-clock of the whole grid."
    )


def _cell(job: Any) -> str:
    if pd.isna(job["held_out"]):
        return str(job["status"])
    return f"{100 * job['held_out']:.1f}" if job["measure"] == "macro_accuracy" else f"{job['held_out']:.4f}"
