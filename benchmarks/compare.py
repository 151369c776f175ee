"""The regression gate: `python -m benchmarks.compare BASE NEW`, two folders of records or two single files.

Exit status: 0 no regression, 1 a regression (a job that is missing or failed in NEW is one), 2 the two cannot be
compared, since they come from different machines, versions, documents or settings. What counts as a regression, and
why, stands in benchmarks/gate/README.md; every limit is an option.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.gate.checks import compare
from benchmarks.gate.findings import Limits
from benchmarks.gate.pairs import load
from benchmarks.gate.render import JUnit, Markdown, refuse, report

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
DEFAULTS = Limits()


@app.command()
def main(
    base: Annotated[Path, typer.Argument(help="Records of the earlier run: a folder or a file.")],
    new: Annotated[Path, typer.Argument(help="Records of the later run.")],
    reference: Annotated[
        str | None, typer.Option(help="Method that accuracy and time relate to. [lora, where there is one]")
    ] = None,
    memory: Annotated[float, typer.Option(help="Percent a phase's peak may grow.")] = 100 * DEFAULTS.memory,
    memory_warning: Annotated[float, typer.Option(help="Percent, warns.")] = 100 * DEFAULTS.memory_warning,
    accuracy: Annotated[float, typer.Option(help="Points the macro mean may fall.")] = 100 * DEFAULTS.accuracy,
    loglikelihood: Annotated[
        float, typer.Option(help="Nats the right choices' mean log-likelihood may fall.")
    ] = DEFAULTS.loglikelihood,
    tolerance: Annotated[
        float, typer.Option(help="Of one log-likelihood on a device that repeats.")
    ] = DEFAULTS.tolerance,
    p: Annotated[float, typer.Option("--p", help="One-sided, below which a fall counts.")] = DEFAULTS.p,
    time: Annotated[float, typer.Option(help="Percent a phase may slow down.")] = 100 * DEFAULTS.time,
    time_spread: Annotated[float, typer.Option(help="Percent by which rows with one repeat have to exceed it.")] = 100
    * DEFAULTS.time_spread,
    shortest_seconds: Annotated[float, typer.Option(help="Phases below are not timed.")] = DEFAULTS.shortest_seconds,
    loss: Annotated[float, typer.Option(help="Percent the training loss may grow.")] = 100 * DEFAULTS.loss,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Missing and failed rows only warn.")] = False,
    declared: Annotated[
        bool, typer.Option("--declared", help="Answers were meant to change: changed ones only warn.")
    ] = False,
    show_all: Annotated[bool, typer.Option("--all", help="Print what is unchanged, too.")] = False,
    markdown: Markdown = None,
    junit: JUnit = None,
) -> None:
    """Compare two runs row by row; exit 1 when something got worse."""
    try:
        limits = Limits(
            reference=reference,
            memory=memory / 100,
            memory_warning=memory_warning / 100,
            accuracy=accuracy / 100,
            loglikelihood=loglikelihood,
            tolerance=tolerance,
            p=p,
            time=time / 100,
            time_spread=time_spread / 100,
            shortest_seconds=shortest_seconds,
            loss=loss / 100,
            allow_missing=allow_missing,
            declared=declared,
        )
        findings = compare(load(base), load(new), limits)
    except (ValueError, OSError) as error:
        refuse(str(error), junit, markdown)
    raise typer.Exit(report(findings, junit, markdown, show_all))


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.compare")
