"""The regression gate: `python -m benchmarks.compare BASE NEW`, two folders of records or two single files.

Exit status: 0 no regression, 1 a regression (a job that is missing or failed in NEW is one), 2 the two cannot be
compared, since they come from different machines, versions, documents or settings. What counts as a regression, and
why, stands in benchmarks/gate/checks.py; every limit is an option.
"""

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
from rich.table import Table

from benchmarks.gate.checks import STATUSES, Finding, Limits, compare
from benchmarks.gate.pairs import RefusedError
from results import Record
from results.record import RecordError
from results.store import read

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
DEFAULTS = Limits()
HEADINGS = ("", "row", "check", "base", "new", "change", "detail")
_NOT_XML = re.compile(r"(\x1b\[[0-9;]*m)|[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
COLOURS = {"regression": "red", "warning": "yellow", "improvement": "green", "new": "cyan", "ok": "dim"}

Markdown = Annotated[Path | None, typer.Option(help="Write the findings to this file as Markdown.")]
JUnit = Annotated[Path | None, typer.Option("--junit", help="Write the findings to this file as JUnit XML.")]


@app.command()
def main(
    base: Annotated[Path, typer.Argument(help="Records of the earlier run: a folder or a file.")],
    new: Annotated[Path, typer.Argument(help="Records of the later run.")],
    reference: Annotated[str, typer.Option(help="Method that accuracy and time relate to.")] = DEFAULTS.reference,
    memory: Annotated[float, typer.Option(help="Percent a phase's peak may grow.")] = 100 * DEFAULTS.memory,
    memory_warning: Annotated[float, typer.Option(help="Percent, warns.")] = 100 * DEFAULTS.memory_warning,
    accuracy: Annotated[float, typer.Option(help="Points the macro mean may fall.")] = 100 * DEFAULTS.accuracy,
    p: Annotated[float, typer.Option("--p", help="One-sided, below which a fall counts.")] = DEFAULTS.p,
    time: Annotated[float, typer.Option(help="Percent a phase may slow down.")] = 100 * DEFAULTS.time,
    time_spread: Annotated[float, typer.Option(help="Percent by which rows with one repeat have to exceed it.")] = 100
    * DEFAULTS.time_spread,
    shortest_seconds: Annotated[float, typer.Option(help="Phases below are not timed.")] = DEFAULTS.shortest_seconds,
    loss: Annotated[float, typer.Option(help="Percent the training loss may grow.")] = 100 * DEFAULTS.loss,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Missing and failed rows only warn.")] = False,
    show_all: Annotated[bool, typer.Option("--all", help="Print what is unchanged, too.")] = False,
    markdown: Markdown = None,
    junit: JUnit = None,
) -> None:
    """Compare two runs row by row; exit 1 when something got worse."""
    limits = Limits(
        reference=reference,
        memory=memory / 100,
        memory_warning=memory_warning / 100,
        accuracy=accuracy / 100,
        p=p,
        time=time / 100,
        time_spread=time_spread / 100,
        shortest_seconds=shortest_seconds,
        loss=loss / 100,
        allow_missing=allow_missing,
    )
    try:
        findings = compare(load(base), load(new), limits)
    except (RefusedError, RecordError, OSError) as error:
        refuse(str(error), junit, markdown)
    raise typer.Exit(report(findings, junit, markdown, show_all))


def load(place: Path) -> list[Record]:
    """The records of a folder, or the one of a file. Raises RecordError or OSError; no file is moved or changed."""
    files = sorted(place.glob("*.json")) if place.is_dir() else [place]
    if not files:
        raise RecordError(f"{place}: no record there")
    return [read(file) for file in files]


def report(findings: Sequence[Finding], junit: Path | None, markdown: Path | None, show_all: bool = False) -> int:
    """Print the findings and write the files. Returns the exit status, 2 where a file cannot be written."""
    console = Console(highlight=False, markup=False)  # an error message may hold brackets
    console = Console(highlight=False, markup=False, width=console.width if console.is_terminal else 200)
    shown = findings if show_all else [f for f in findings if f.status != "ok"]
    if shown:
        table = Table(*HEADINGS)
        for finding in shown:
            table.add_row(*_cells(finding), style=COLOURS[finding.status])
        console.print(table)
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
    print(message, file=sys.stderr)
    suite = _suite(tests=1, failures=0, errors=1)
    case = ElementTree.SubElement(suite[0], "testcase", classname="gate", name="fingerprint")
    ElementTree.SubElement(case, "error", type="refused", message=message)
    try:
        _write(junit, _xml(suite))
        _write(markdown, f"**Not compared.** {message}\n")
    except OSError as error:
        print(error, file=sys.stderr)
    raise typer.Exit(2)


def _write(file: Path | None, text: str) -> None:
    if file:
        file.write_text(text, encoding="utf-8")


def verdict(findings: Sequence[Finding]) -> str:
    """One or two lines: how many of what, and whether the baseline should move."""
    counts = Counter(f.status for f in findings)
    told = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    rows = len({f.row for f in findings})
    text = f"{len(findings)} checks of {rows} rows: {told}"
    if counts["improvement"] or counts["new"]:
        text += "\nBetter or new: once this is merged, make it the new baseline, so that it is kept"
    return text


def as_markdown(findings: Sequence[Finding]) -> str:
    """What changed as a table, and the rest as another one that is folded up."""
    changed, same = ([f for f in findings if (f.status == "ok") == ok] for ok in (False, True))
    parts = ["### " + ("Regression" if any(f.status == "regression" for f in findings) else "No regression")]
    parts.append(verdict(findings).replace("\n", ". ") + ".")
    if changed:
        parts.append(_pipes(changed))
    if same:
        parts.append(f"<details><summary>Unchanged</summary>\n\n{_pipes(same)}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def as_junit(findings: Sequence[Finding]) -> str:
    """One test case for each row and check; a regression is a failure, any other change is told as output."""
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
    """The file's text, without what XML 1.0 cannot hold: an error message may come with a terminal's colours."""
    ElementTree.indent(suite)
    text = ElementTree.tostring(suite, encoding="unicode")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + _NOT_XML.sub("", text) + "\n"


def _pipes(findings: Sequence[Finding]) -> str:
    lines = [HEADINGS, ["---"] * len(HEADINGS), *map(_cells, findings)]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )


def _cells(finding: Finding) -> list[str]:
    f = finding
    return [f.status, f.row, f.check, f.base, f.new, f.change, f.detail]


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.compare")
