"""`python -m reports study FOLDER`: answer a study from the records beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from reports.analysis.study_answers import load_answer
from reports.options import Images, Vector, formats, refuse, shown
from results.table import terminal_table


def study(
    folder: Annotated[Path, typer.Argument(help="Folder of study.json and its records.", file_okay=False)],
    out: Annotated[Path | None, typer.Option(help="Folder to draw into.", show_default="FOLDER/report")] = None,
    images: Images = True,
    vector: Vector = False,
) -> None:
    """Answer a study in words, with one figure and one table."""
    from reports.studies.page import study_table, write_study

    try:
        answer = load_answer(folder)
        page = write_study(answer, out or folder / "report", formats(images, vector))
    except (ValueError, OSError) as error:
        refuse(str(error))
    console = Console(highlight=False, width=170)
    console.print(terminal_table(study_table(answer, f"{answer.study.name}, size {answer.study.size}")))
    console.print(f"{answer.study.question}\n{answer.sentence}", markup=False)
    print(shown(page))
