"""The page of a study: the question, the answer in words, one figure and one table."""

from __future__ import annotations

from pathlib import Path

from reports.analysis.study_answers import Answered
from reports.render.files import Images, write_figure, write_text
from reports.render.templating import as_markdown
from reports.studies.drawing import (
    agreement_frame,
    contrast_frame,
    curve_frame,
    draw_agreement,
    draw_contrasts,
    draw_curves,
)
from results.table import NOTHING, Table


def write_study(answered: Answered, folder: Path, images: Images) -> Path:
    """Into `folder`: study.md, the figure and the numbers it shows. Returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    draws = {"curves": (curve_frame, draw_curves), "agreement": (agreement_frame, draw_agreement)}
    name = "curves" if answered.study.curves else "agreement" if answered.agreements else "contrasts"
    make, draw = draws.get(name, (contrast_frame, draw_contrasts))
    frame = make(answered)
    write_figure(folder, name, frame, lambda: draw(frame, answered), images)
    page = folder / "study.md"
    table = study_table(answered, "")
    write_text(page, as_markdown("study.md.j2", study=answered.study, answered=answered, table=table, figure=name))
    return page


def study_table(answered: Answered, title: str) -> Table:
    """Return a row a contrast: difference, interval, p, verdict, answer."""
    form, scale = answered.measure.format, answered.measure.scale
    rows = []
    for a in answered.answers:
        value = NOTHING if a.value is None else f"{scale * a.value:{form}}"
        low_high = NOTHING if a.interval is None else " to ".join(f"{scale * x:{form}}" for x in a.interval)
        p = NOTHING if a.p is None else f"{a.p:.3f}"
        says = a.answer if a.contrast.decides else f"({a.answer})"
        rows.append((a.contrast.name, value, low_high, p, a.word, says, str(a.seeds), a.note or NOTHING))
    unit = answered.measure.unit
    columns = (
        "Contrast",
        f"Difference ({unit})",
        "95% interval",
        "p",
        "Verdict",
        "Answer",
        "Seeds",
        "Note",
    )
    better = "more" if answered.measure.higher else "less"
    notes = (
        f"{answered.measure.label}: {better} is better; declared before the jobs ran. The verdict is on the first of "
        "two. Answers in brackets stand beside: the study's own does not rest on them. Differences: over documents and "
        "seeds, p Holm-adjusted over the study. Ranks among random allocations: the mean difference to them, their "
        "range in the place of an interval, and a one-sided permutation test. Agreements: no difference, but a rank "
        "correlation, one-sided and exact.",
    )
    return Table(title, columns, tuple(rows), frozenset({0, 4, 5, 7}), notes=notes)
