"""A table as plain data, whatever its content, with its Markdown and its rendering for the terminal.

Cells are text, ready to show, and what they hold comes from anywhere: here is how it is made harmless in Markdown and
in CSV. What only the reports write (HTML, LaTeX, CSV) is in reports/render/table.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

NOTHING = "–"


@dataclass(frozen=True)
class Table:
    """Title, columns, rows and notes. `bold` marks the best of a column by (row, column)."""

    title: str  # may be empty
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: frozenset[int] = frozenset({0})  # aligned left
    bold: frozenset[tuple[int, int]] = frozenset()
    notes: tuple[str, ...] = ()


def markdown(table: Table, heading: str = "##") -> str:
    """Write a GitHub table with its title above and its notes below; cells may hold anything, HTML included."""
    rule = [":---" if i in table.text_columns else "---:" for i in range(len(table.columns))]
    lines = [_line(map(escape_markdown, table.columns)), _line(rule)]
    for r, row in enumerate(table.rows):
        cells = [escape_markdown(cell) for cell in row]
        lines.append(_line(f"**{c}**" if (r, i) in table.bold else c for i, c in enumerate(cells)))
    if not table.rows:
        lines = ["Nothing to show: no finished record."]
    title = f"{heading} {escape_markdown(table.title)}\n\n" if table.title else ""
    return title + "\n".join(lines) + "\n" + "".join(f"\n{escape_markdown(note)}\n" for note in table.notes)


def plain_markdown(table: Table, rule: str = " --- ") -> str:
    """Write head and rows alone, for cells of our own making, where `<=` stays as it is; only pipes are escaped."""
    columns, *rows = (
        [" ".join(cell.split("\n")).replace("|", "\\|") for cell in row] for row in (table.columns, *table.rows)
    )
    lines = [_line(columns), f"|{'|'.join([rule] * len(columns))}|", *map(_line, rows)]
    return "\n".join(lines) + "\n"


def terminal_table(
    table: Table, boxed: bool = False, styles: Mapping[tuple[int, int], str] | None = None
) -> RenderableType:
    """Make the table ready for `rich.console.Console.print`.

    boxed: the title centred in a frame, cells wrapped, all aligned left; otherwise headings are broken at underscores
    and units, and no cell is wrapped. styles: rich's style of a cell by (row, column), beside the bold ones.
    """
    import rich.box
    import rich.table
    from rich.console import Group
    from rich.text import Text

    styles = {**dict.fromkeys(table.bold, "bold"), **(styles or {})}
    if boxed:
        made = rich.table.Table(*table.columns, title=table.title or None)
    else:
        made = rich.table.Table(header_style="bold", box=rich.box.SIMPLE_HEAD, pad_edge=False)
        for i, column in enumerate(table.columns):
            made.add_column(broken(column), justify="left" if i in table.text_columns else "right", no_wrap=True)
    for r, row in enumerate(table.rows):
        made.add_row(*(Text(cell, style=styles.get((r, i), "")) for i, cell in enumerate(row)))
    title = [Text(table.title, style="bold")] if table.title and not boxed else []
    return Group(*title, made, *(Text(note) for note in table.notes))


def terminal_width(table: Table) -> int:
    """Count the characters that `terminal_table` needs to show every cell whole (its title and notes wrap)."""
    columns = zip(*([broken(c) for c in table.columns], *table.rows), strict=True)
    return sum(3 + max(len(line) for cell in column for line in cell.split("\n") or [""]) for column in columns)


def broken(heading: str) -> str:
    """Break a heading into lines, since it is often wider than what stands below it."""
    return heading.replace(" (", "\n(").replace("_", "\n")


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def inert(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would run as a formula; a number in text stays a number."""
    text = text.replace("\r\n", "\n").replace("\r", " ")  # the writer would not put quotes around it
    if not text.lstrip().startswith(("=", "+", "-", "@")) and not text.startswith(("\t", "\r", "\n")):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def escape_markdown(text: str) -> str:
    """Return the text in one line that GitHub's Markdown shows as it is: no tag, link, emphasis, code or list in it."""
    text = " ".join(str(text).split())
    text = re.sub(r"&(?=#?\w)", "&amp;", text).replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"[\\`*|~]|\](?=[(\[:])", r"\\\g<0>", text)  # a bracket alone is no link
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\_", text)  # inside a word an underscore is no emphasis
    text = re.sub(r"^([#+=-])(?![\w.])", r"\\\1", text)  # what begins a heading, a list or a rule
    return re.sub(r"^(\d+)([.)])(?=\s)", r"\1\\\2", text)
