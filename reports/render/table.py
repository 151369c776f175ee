"""A table as the reports alone write it: HTML, LaTeX (booktabs), CSV. Markdown and terminal are in results/table.py."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

import pandas as pd

from reports import frame
from reports.render.templating import html_part
from results.table import NOTHING, Table, broken


def html_table(
    table: Table, links: Mapping[str, str] | None = None, kind: str = "", extra: frozenset[int] = frozenset()
) -> str:
    """Render a region that scrolls sideways with caption and table, and the notes (`table` of parts.html.j2)."""
    return html_part("parts.html.j2", "table", table, links or {}, kind, extra)


def latex(table: Table, label: str) -> str:
    """Render a booktabs table that compiles with packages booktabs and graphicx."""
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


def csv_text(rows: list[dict[str, Any]] | pd.DataFrame) -> str:
    """Rows with the union of their columns; floats to 6 significant digits, so that redraws agree between machines."""
    if isinstance(rows, pd.DataFrame):
        return frame.csv_text(rows, digits=6)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return frame.csv_text(pd.DataFrame(rows, columns=pd.Index(columns, dtype=object), dtype=object), digits=6)


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
    """Escape for TeX, which knows few characters by themselves: an error message may hold anything."""
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain if plain.isprintable() and plain else "?"
