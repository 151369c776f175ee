"""The page of a study: the question, the answer in words, one figure and one table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from reports.analysis.study_answers import NO, YES, Answered
from reports.analysis.verdicts import margins
from reports.figures.canvas import method_axis, new_figure
from reports.render.files import Images, write_figure, write_text
from reports.render.templating import as_markdown
from results.table import NOTHING, Table

COLOURS = {YES: "#0072B2", NO: "#D55E00"}  # undecided: grey
GREY = "#8a8a8a"


def write_study(answered: Answered, folder: Path, images: Images) -> Path:
    """Into `folder`: study.md, the figure and the numbers it shows. Returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    frame = contrast_frame(answered)
    write_figure(folder, "contrasts", frame, lambda: draw_contrasts(frame, answered), images)
    page = folder / "study.md"
    table = study_table(answered, "")
    write_text(page, as_markdown("study.md.j2", study=answered.study, answered=answered, table=table))
    return page


def contrast_frame(answered: Answered) -> pd.DataFrame:
    """Return a row a contrast, in the measure's own unit."""
    rows = [
        {
            "contrast": a.contrast.name, "kind": a.contrast.kind, "decides": a.contrast.decides, "value": a.value,
            "low": a.interval[0] if a.interval else None, "high": a.interval[1] if a.interval else None, "p": a.p,
            "word": a.word, "answer": a.answer, "seeds": a.seeds, "note": a.note,
        }
        for a in answered.answers
    ]  # fmt: skip
    return pd.DataFrame(rows)


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
        "range in the place of an interval, and a one-sided permutation test.",
    )
    return Table(title, columns, tuple(rows), frozenset({0, 4, 5, 7}), notes=notes)


def draw_contrasts(frame: pd.DataFrame, answered: Answered) -> Figure:
    """Draw every contrast with its interval; filled marks decide; the band is the declared margin."""
    figure, ax = new_figure(7.4, 1.4 + 0.29 * len(frame))
    scale, margin = answered.measure.scale, margins().get(answered.measure.name)
    if margin is not None:
        ax.axvspan(-scale * margin, scale * margin, color="#eeeeee", zorder=0)
    ax.axvline(0, color="#333333", linewidth=0.9)
    for y, row in enumerate(frame.to_dict("records")):
        colour = COLOURS.get(str(row["answer"]), GREY)
        if pd.notna(row["low"]):
            ax.plot([scale * row["low"], scale * row["high"]], [y, y], color=colour, linewidth=1.6)
        if pd.notna(row["value"]):
            face = colour if row["decides"] else "white"
            ax.plot(scale * row["value"], y, marker="o", color=colour, markerfacecolor=face, markersize=6)
    direction = "right" if answered.measure.higher else "left"
    unit = answered.measure.unit
    ax.set_xlabel(f"{answered.measure.label}, first minus second ({unit}); better to the {direction}")
    method_axis(ax, list(frame["contrast"]), "")
    title = f"{answered.study.name}, size {answered.study.size}: {answered.answer}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure
