"""A table, whatever its content, as Markdown, CSV, HTML, LaTeX (booktabs) or for the terminal."""

from __future__ import annotations

import csv
import html
import io
from dataclasses import dataclass, field
from typing import Any

import rich.box
import rich.table
from rich.console import Group, RenderableType
from rich.text import Text

NOTHING = "–"


@dataclass(frozen=True)
class Table:
    """Cells are text, ready to show; a cell in `bold` is (row, column)."""

    title: str  # may be empty
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: frozenset[int] = frozenset({0})  # aligned left
    bold: frozenset[tuple[int, int]] = frozenset()
    notes: tuple[str, ...] = field(default=())


def markdown(table: Table, heading: str = "##") -> str:
    """A GitHub table with its title above and its notes below."""
    rule = [":---" if i in table.text_columns else "---:" for i in range(len(table.columns))]
    lines = [_markdown_row(table.columns), _markdown_row(rule, escape=False)]
    for r, row in enumerate(table.rows):
        cells = [_escape(cell) for cell in row]
        lines.append(_markdown_row([f"**{c}**" if (r, i) in table.bold else c for i, c in enumerate(cells)], False))
    if not table.rows:
        lines = ["Nothing to show: no finished record."]
    title = f"{heading} {table.title}\n\n" if table.title else ""
    return title + "\n".join(lines) + "\n" + "".join(f"\n{note}\n" for note in table.notes)


def html_table(table: Table) -> str:
    """A fragment: caption, table and notes."""
    head = "".join(f"<th>{html.escape(c)}</th>" for c in table.columns)
    body = []
    for r, row in enumerate(table.rows):
        cells = []
        for i, cell in enumerate(row):
            text = html.escape(cell)
            align = "" if i in table.text_columns else ' class="number"'
            cells.append(f"<td{align}>{f'<strong>{text}</strong>' if (r, i) in table.bold else text}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    notes = "".join(f"<p>{html.escape(note)}</p>\n" for note in table.notes)
    return (
        f"<table>\n<caption>{html.escape(table.title)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(body)
        + f"\n</tbody>\n</table>\n{notes}"
    )


def latex(table: Table, label: str) -> str:
    """A booktabs table that compiles with packages booktabs and graphicx."""
    alignment = "".join("l" if i in table.text_columns else "r" for i in range(len(table.columns)))
    lines = [" & ".join(_tex(c) for c in table.columns) + r" \\", r"\midrule"]
    for r, row in enumerate(table.rows):
        cells = [rf"\textbf{{{_tex(c)}}}" if (r, i) in table.bold else _tex(c) for i, c in enumerate(row)]
        lines.append(" & ".join(cells) + r" \\")
    notes = " ".join(_tex(note) for note in table.notes)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_tex(table.title)}. {notes}}}",
            rf"\label{{tab:{label}}}",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


def terminal_table(table: Table) -> RenderableType:
    """For rich: the title, the table (its headings broken at underscores and units), the notes."""
    made = rich.table.Table(header_style="bold", box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(table.columns):
        heading = _broken(column)
        left = i in table.text_columns
        made.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for r, row in enumerate(table.rows):
        made.add_row(*(Text(c, style="bold" if (r, i) in table.bold else "") for i, c in enumerate(row)))
    parts = [Text(table.title, style="bold")] if table.title else []
    return Group(*parts, made, *(Text(note) for note in table.notes))


def terminal_width(table: Table) -> int:
    """Characters that `terminal_table` needs to show every cell whole (its title and notes wrap)."""
    columns = zip(*([_broken(c) for c in table.columns], *table.rows), strict=True)
    return sum(3 + max(len(line) for cell in column for line in cell.split("\n") or [""]) for column in columns)


def _broken(heading: str) -> str:
    return heading.replace(" (", "\n(").replace("_", "\n")


def csv_text(rows: list[dict[str, Any]]) -> str:
    """Rows with the union of their columns; floats to 6 significant digits, so that redraws agree between machines."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_csv_cell(row.get(name)) for name in columns])
    return buffer.getvalue()


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"
    return str(value)


def _markdown_row(cells: tuple[str, ...] | list[str], escape: bool = True) -> str:
    return "| " + " | ".join(_escape(c) if escape else c for c in cells) + " |"


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def _tex(text: str) -> str:
    special = {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "≈": r"$\approx$", NOTHING: "--",
        "−": "$-$", "≥": r"$\geq$", "<": r"\textless{}", ">": r"\textgreater{}", "…": r"\ldots{}",
    }  # fmt: skip
    return "".join(special.get(c, c) for c in " ".join(text.split()))
