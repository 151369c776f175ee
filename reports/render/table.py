"""A table as the reports alone write it: HTML, LaTeX (booktabs), CSV. Markdown and terminal are in results/table.py."""

from __future__ import annotations

import csv
import html
import io
import unicodedata
from collections.abc import Mapping
from typing import Any

from results.table import NOTHING, Table, broken


def html_table(
    table: Table, links: Mapping[str, str] | None = None, kind: str = "", extra: frozenset[int] = frozenset()
) -> str:
    """A fragment: a region that scrolls sideways with caption and table, and the notes.

    links: by first cell, where the numbers of that row come from; only the first link of a row is a stop of the Tab
    key. kind: the table's class. extra: columns of class "extra", which a page may hide at first.
    """
    name = html.escape(table.title)
    classes = [
        " ".join([*(["number"] if i not in table.text_columns else []), *(["extra"] if i in extra else [])])
        for i in range(len(table.columns))
    ]
    marks = [f' class="{c}"' if c else "" for c in classes]
    head = "".join(f'<th scope="col"{mark}>{html.escape(c)}</th>' for c, mark in zip(table.columns, marks, strict=True))
    body = []
    for r, row in enumerate(table.rows):
        cells = []
        for i, cell in enumerate(row):
            text = f"<strong>{html.escape(cell)}</strong>" if (r, i) in table.bold else html.escape(cell)
            link = (links or {}).get(row[0])
            if link and cell != NOTHING and (i == 0 or i not in table.text_columns):
                text = f'<a href="{html.escape(link)}"{" tabindex=-1" if i else ""}>{text}</a>'
            cells.append(f"<td{marks[i]}>{text}</td>" if i else f'<th scope="row"{marks[i]}>{text}</th>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    notes = "".join(f'<p class="note">{html.escape(note)}</p>\n' for note in table.notes)
    if not table.rows:
        return f"<p>Nothing to show: no finished record.</p>\n{notes}"
    return (
        f'<div class="scroll" role="region" aria-label="{name}" tabindex="0">\n<table class="{kind}">\n'
        f"<caption>{name}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(body)
        + f"\n</tbody>\n</table>\n</div>\n{notes}"
    )


def latex(table: Table, label: str) -> str:
    """A booktabs table that compiles with packages booktabs and graphicx."""
    alignment = "".join("l" if i in table.text_columns else "r" for i in range(len(table.columns)))
    lines = [" & ".join(map(_tex_heading, table.columns)) + r" \\", r"\midrule"]
    for r, row in enumerate(table.rows):
        cells = [rf"\textbf{{{_tex(c)}}}" if (r, i) in table.bold else _tex(c) for i, c in enumerate(row)]
        lines.append(" & ".join(cells) + r" \\")
    notes = " ".join(_tex(note) for note in table.notes)
    return "\n".join(
        [
            r"% \usepackage{booktabs,graphicx}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_tex(table.title)}.}}",
            rf"\label{{tab:{label}}}",
            r"\medskip",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}",
            *([r"\par\smallskip", rf"{{\footnotesize\raggedright {notes}\par}}"] if notes else []),
            r"\end{table}",
            "",
        ]
    )


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


def _tex_heading(column: str) -> str:
    """In several lines, since a heading is often wider than what stands below it."""
    lines = [_tex(line) for line in broken(column).replace(", ", ",\n").split("\n")]
    return lines[0] if len(lines) == 1 else r"\shortstack[r]{" + r"\\".join(lines) + "}"


def _tex(text: str) -> str:
    special = {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "≈": r"$\approx$", NOTHING: "--",
        "−": "$-$", "≥": r"$\geq$", "<": r"\textless{}", ">": r"\textgreater{}", "…": r"\ldots{}", "×": r"$\times$",
        "⁶": "$^6$",
        "[": "{[}", "]": "{]}",  # after a row's end a bracket would be an option of the line break
    }  # fmt: skip
    return "".join(special.get(c) or _ascii(c) for c in " ".join(text.split()))


def _ascii(character: str) -> str:
    """An error message may hold anything; TeX knows few characters by themselves."""
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain if plain.isprintable() and plain else "?"
