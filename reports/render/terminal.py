"""Tables at the end of a run, for a terminal or a log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Group as RichGroup
from rich.console import RenderableType
from rich.text import Text

from reports.analysis.groups import make_groups
from reports.analysis.tuning import tuning_table
from reports.render.tables import ablation_table, compact_columns, compact_notes, method_table
from results.record import Record
from results.table import Table, terminal_table, terminal_width


def terminal(records: Sequence[Record], width: int = 200, bold: bool = True) -> RenderableType:
    """Print the end of a run: a compact table a group, in two parts where the terminal is narrow.

    bold: whether what it is printed on shows bold; the best has an asterisk behind it where not.
    """

    def ready(table: Table) -> RenderableType:
        return terminal_table(table if bold else starred(table))

    if not records:
        return Text("No record to show.")
    parts: list[RenderableType] = []
    for group in make_groups(records, auto_split=True):
        parts += [ready(table) for table in tuning_table(group)]
        if not group.rows:
            continue
        summaries = group.summaries
        notes = compact_notes(group, summaries)
        columns = compact_columns(summaries)
        whole = method_table(group, summaries, columns, group.title, notes, compact=True)
        if terminal_width(whole) <= width:
            parts += [ready(table) for table in (whole, *ablation_table(group))]
            continue
        short = [c for c in columns if c != "tasks"]
        parts.append(ready(method_table(group, summaries, short, group.title, (), compact=True)))
        scored = [s for s in summaries if s.tasks]
        fitting = max(1, (width - max(len(row.label) for row in group.rows) - 3) // 13)
        for start in range(0, len(group.tasks) if scored else 0, fitting):
            part = group.tasks[start : start + fitting]
            parts.append(ready(method_table(group, scored, part, "", (), compact=True)))
        parts.append(Text("\n".join(notes if bold else map(_starred, notes))))
        parts += [ready(table) for table in ablation_table(group)]
    return RichGroup(*parts)


def starred(table: Table) -> Table:
    """Mark each bold cell with an asterisk behind it, in the table's notes too."""
    rows = tuple(
        tuple(f"{cell} *" if (r, i) in table.bold else cell for i, cell in enumerate(row))
        for r, row in enumerate(table.rows)
    )
    return replace(table, rows=rows, bold=frozenset(), notes=tuple(map(_starred, table.notes)))


def _starred(note: str) -> str:
    return note.replace("Bold: ", "*: ")
