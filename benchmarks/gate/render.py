"""The gate's findings for people and machines: on the terminal, as Markdown, as JUnit XML."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.gate.findings import STATUSES, Finding
from results.table import Table, escape_markdown, terminal_table
from results.table import markdown as markdown_table

HEADINGS = ("", "row", "check", "base", "new", "change", "detail")
_NOT_XML = re.compile(r"(\x1b\[[0-9;]*m)|[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
COLOURS = {"regression": "red", "warning": "yellow", "improvement": "green", "new": "cyan", "ok": "dim"}

Markdown = Annotated[Path | None, typer.Option(help="Write the findings to this file as Markdown.")]
JUnit = Annotated[Path | None, typer.Option("--junit", help="Write the findings to this file as JUnit XML.")]


def report(findings: Sequence[Finding], junit: Path | None, markdown: Path | None, show_all: bool = False) -> int:
    """Print the findings and write the files. Returns the exit status, 2 where a file cannot be written."""
    console = Console(highlight=False, markup=False)  # an error message may hold brackets
    console = Console(highlight=False, markup=False, width=console.width if console.is_terminal else 200)
    shown = findings if show_all else [f for f in findings if f.status != "ok"]
    if shown:
        styles = {(i, j): COLOURS[f.status] for i, f in enumerate(shown) for j in range(len(HEADINGS))}
        console.print(terminal_table(as_table(shown), boxed=True, styles=styles))
    console.print(verdict(findings))
    try:
        _write(junit, as_junit(findings))
        _write(markdown, as_markdown(findings))
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    return 1 if any(f.status == "regression" for f in findings) else 0


def refuse(message: str, junit: Path | None, markdown: Path | None) -> None:
    """Say why nothing was compared, in the files as well, and end with exit status 2."""
    print(f"error: {message}", file=sys.stderr)
    suite = _suite(tests=1, failures=0, errors=1)
    case = ElementTree.SubElement(suite[0], "testcase", classname="gate", name="fingerprint")
    ElementTree.SubElement(case, "error", type="refused", message=message)
    try:
        _write(junit, _xml(suite))
        _write(markdown, f"**Not compared.** {escape_markdown(message)}\n")
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
    raise typer.Exit(2)


def _write(file: Path | None, text: str) -> None:
    if file:
        file.write_text(text, encoding="utf-8")


def verdict(findings: Sequence[Finding]) -> str:
    """Say in one or two lines how many of what, and whether the baseline should move."""
    counts = Counter(f.status for f in findings)
    told = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    rows = len({f.row for f in findings})
    text = f"{len(findings)} checks of {rows} rows: {told}"
    if counts["improvement"] or counts["new"]:
        text += "\nBetter or new: once this is merged, make it the new baseline, so that it is kept"
    return text


def as_markdown(findings: Sequence[Finding]) -> str:
    """Write what changed as a table, and the rest as another one that is folded up; cells are shown as text."""
    changed, same = ([f for f in findings if (f.status == "ok") == ok] for ok in (False, True))
    parts = ["### " + ("Regression" if any(f.status == "regression" for f in findings) else "No regression")]
    parts.append(verdict(findings).replace("\n", ". ") + ".")
    if changed:
        parts.append(markdown_table(as_table(changed)).rstrip("\n"))
    if same:
        parts.append(f"<details><summary>Unchanged</summary>\n\n{markdown_table(as_table(same))}\n</details>")
    return "\n\n".join(parts) + "\n"


def as_junit(findings: Sequence[Finding]) -> str:
    """Write one test case for each row and check; a regression is a failure, any other change is told as output."""
    suite = _suite(tests=len(findings), failures=sum(f.status == "regression" for f in findings), errors=0)
    for finding in findings:
        case = ElementTree.SubElement(suite[0], "testcase", classname=finding.row, name=finding.check)
        text = ": ".join(filter(None, (finding.change, finding.detail))) or f"{finding.base} -> {finding.new}"
        if finding.status == "regression":
            failure = ElementTree.SubElement(case, "failure", type=finding.status, message=text)
            failure.text = f"{finding.base} -> {finding.new}"
        elif finding.status != "ok":
            ElementTree.SubElement(case, "system-out").text = f"{finding.status}: {text}"
    return _xml(suite)


def _suite(tests: int, failures: int, errors: int) -> ElementTree.Element:
    counts = {"tests": str(tests), "failures": str(failures), "errors": str(errors)}
    suites = ElementTree.Element("testsuites", counts)
    ElementTree.SubElement(suites, "testsuite", {"name": "benchmarks.compare", **counts})
    return suites


def _xml(suite: ElementTree.Element) -> str:
    """Return the file's text, without what XML 1.0 cannot hold: an error message may come with a terminal's colours."""
    ElementTree.indent(suite)
    text = ElementTree.tostring(suite, encoding="unicode")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + _NOT_XML.sub("", text) + "\n"


def as_table(findings: Sequence[Finding]) -> Table:
    """Lay out a row for each finding."""
    rows = tuple((f.status, f.row, f.check, f.base, f.new, f.change, f.detail) for f in findings)
    return Table("", HEADINGS, rows, text_columns=frozenset(range(len(HEADINGS))))
