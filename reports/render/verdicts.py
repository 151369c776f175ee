"""The verdicts as tables and as rows for a CSV: the intervals of both questions, the words, and guessing."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.analysis import measures
from reports.analysis.crossed import Estimate
from reports.analysis.groups import Group
from reports.analysis.measures import Measure
from reports.analysis.verdicts import LOSS, Judged, margins
from reports.analysis.wording import seed_count
from results.record import Score
from results.table import NOTHING, Table

WIDE, FAR = 100.0, 6  # of a drawn interval: its width; a bound beyond so many times the median reach is cut off
GUESS_NOTE = (
    "A method that answers no better than these rows has learned nothing of the task. chance: every choice equally "
    "often. majority: always the commonest right answer, where a task has the same two answers for every document (as "
    "yes and no); its mean takes chance for the other tasks. Compare with the rows of the table of accuracies."
)
BALANCED_NOTE = (
    "Balanced: the mean of the accuracy where yes is right and that where no is right. Who always says the same has "
    "50%, however common that answer is; a method far above 50% in accuracy but near it here mostly guesses."
)


def verdict_tables(group: Group) -> list[Table]:
    """One table for each measure of each comparison that the report shows."""
    return [
        _table(judged)
        for by_measure in group.judged
        for judged in by_measure.values()
    ]  # fmt: skip


@dataclass(frozen=True)
class DrawnInterval:
    """An interval as a page draws it: places on an axis from 0 to `WIDE`, in whose middle lies a difference of 0."""

    low: float
    value: float
    high: float
    margin: float  # half of the band around the middle

    @property
    def inside(self) -> bool:
        """Whether the difference itself lies on the axis."""
        return 0 <= self.value <= WIDE


def drawn_intervals(group: Group) -> list[dict[str, DrawnInterval]]:
    """Return {method: the interval that its verdict is about}, one for each of `verdict_tables` in their order."""
    return [_drawn(judged) for by_measure in group.judged for judged in by_measure.values()]


def _drawn(judged: Sequence[Judged]) -> dict[str, DrawnInterval]:
    intervals = {j.row.label: (*j.asked.interval(), j.paired.value) for j in judged if j.asked is not None}
    if not intervals:
        return {}
    margin = margins().get(judged[0].measure.name) or 0.0
    reach = [max(map(abs, interval)) for interval in intervals.values()]
    scale = WIDE / 2 / (max(min(max(reach), FAR * statistics.median(reach)), margin, 1e-12) * 1.05)

    def place(value: float) -> float:
        return round(WIDE / 2 + scale * value, 1)

    return {
        label: DrawnInterval(max(place(low), 0.0), place(value), min(place(high), WIDE), round(scale * margin, 1))
        for label, (low, high, value) in intervals.items()
    }


def verdict_rows(group: Group) -> list[dict[str, Any]]:
    """One row a method, reference and measure, in the unit of the measure (accuracy as a fraction)."""
    return [_row(j) for by_measure in group.judged for judged in by_measure.values() for j in judged]


def guess_tables(group: Group) -> list[Table]:
    """Lay out what guessing gives, with the columns of the table of accuracies; and accuracies of yes and no, balanced.

    Empty unless a record holds the choices of every task.
    """
    for scores in (r.scores or {} for row in group.finished for r in row.done):
        guessed = {task: share for task in group.tasks if (share := measures.chance(scores[task])) is not None}
        if len(guessed) == len(group.tasks):
            return _guessing(group, scores, guessed)
    return []


def _guessing(group: Group, scores: Mapping[str, Score], by_chance: Mapping[str, float]) -> list[Table]:
    commonest = {task: measures.majority(scores[task]) for task in group.tasks}
    best = {task: by_chance[task] if share is None else share for task, share in commonest.items()}
    rows = [
        (name, *(_percent(shares[task]) for task in group.tasks), _percent(statistics.fmean(mean.values())))
        for name, shares, mean in (("chance", by_chance, by_chance), ("majority", commonest, best))
    ]
    tables = [Table("Guessing (%)", ("Method", *group.tasks, "Macro mean"), tuple(rows), notes=(GUESS_NOTE,))]
    two = [task for task, share in commonest.items() if share is not None]
    return [*tables, _balanced(group, two, commonest)] if two else tables


def _balanced(group: Group, tasks: Sequence[str], commonest: Mapping[str, float | None]) -> Table:
    """Accuracy beside balanced accuracy of each method, mean over its seeds; guessing stands in front."""
    rows = [("chance", *["50.0"] * (2 * len(tasks)))]
    rows.append(("majority", *(cell for task in tasks for cell in (_percent(commonest[task]), "50.0"))))
    for row in group.finished:
        of_tasks = [[(r.scores or {})[task] for r in row.done] for task in tasks]
        balanced = [[b for s in scores if (b := measures.balanced_accuracy(s)) is not None] for scores in of_tasks]
        pairs = zip(of_tasks, balanced, strict=True)
        means = [(statistics.fmean(s.value for s in scores), statistics.fmean(b) if b else None) for scores, b in pairs]
        rows.append((row.label, *(_percent(share) for pair in means for share in pair)))
    columns = ("Method", *(name for task in tasks for name in (task, f"{task}, balanced")))
    return Table("Where answers are yes or no (%)", columns, tuple(rows), notes=(BALANCED_NOTE,))


def _table(judged: Sequence[Judged]) -> Table:
    measure, reference = judged[0].measure, judged[0].reference
    of_models = [j for j in judged if j.about_models]
    mixed = 0 < len(of_models) < len(judged)
    made: list[tuple[str, Callable[[Judged], str]]] = [
        ("Method", lambda j: j.row.label),
        ("Verdict", lambda j: j.word + (" (these models)" if mixed and j.about_models else "")),
        ("Seeds", _seeds),
        (f"Difference ({measure.unit})" if measure.unit else "Difference", lambda j: _number(measure, j.paired.value)),
        ("These models", lambda j: _interval(measure, j.paired.models)),
        ("The method", lambda j: _interval(measure, j.paired.method)),
        ("Detectable", lambda j: NOTHING if j.detectable is None else _number(measure, j.detectable).lstrip("+")),
    ]
    if len(of_models) == len(judged):
        made = [column for column in made if column[0] != "The method"]
    rows = tuple(tuple(cell(j) for _, cell in made) for j in judged)
    margin, over = margins().get(measure.name), "steps" if measure is LOSS else "documents"
    better = "more" if measure.higher else "less"
    limit = _number(measure, margin).lstrip("+") if margin else NOTHING
    notes = [
        f"{measure.sentence} {measure.how} Above 0: more than {reference.label}; {better} is better.",
        f"One seed: verdicts and intervals (95%, over {over}) are about these trained models only; whether the "
        "method differs, trained again with other seeds, is not known."
        if len(of_models) == len(judged)
        else f"These models: 95% interval over {over}, for the models that were trained. The method: over {over} and "
        "seeds, for models trained with other seeds as well; with one seed that is not known.",
        "Verdict (5%, Holm-adjusted over the methods): better, worse, equivalent (a difference beyond the margin of "
        f"{limit} is ruled out), or undecided. Detectable: the smallest true difference that this test finds in 80% of "
        "such evaluations.",
    ]
    title = f"{measure.label}: difference to {reference.label}"
    return Table(title, tuple(name for name, _ in made), rows, frozenset({0, 1}), notes=tuple(notes))


def _percent(share: float | None) -> str:
    return NOTHING if share is None else f"{100 * share:.1f}"


def _seeds(j: Judged) -> str:
    return seed_count(sorted(set(j.row.seeds) & set(j.reference.seeds)))


def _number(measure: Measure, value: float) -> str:
    shown = round(measure.scale * value, 10)  # else one half would fall to either side, as the sum left it
    return f"{shown:{measure.format}}".replace("-", "−")


def _interval(measure: Measure, estimate: Estimate | None) -> str:
    if estimate is None:
        return NOTHING
    return " to ".join(_number(measure, bound) for bound in estimate.interval())


def _row(j: Judged) -> dict[str, Any]:
    row: dict[str, Any] = {
        "method": j.row.label, "reference": j.reference.label, "measure": j.measure.name, "seeds": j.paired.seeds,
        "documents": j.paired.documents, "difference": j.paired.value,
    }  # fmt: skip
    for name, estimate in (("models", j.paired.models), ("method", j.paired.method)):
        low, high = estimate.interval() if estimate else (None, None)
        row |= {f"{name}_stderr": estimate.stderr if estimate else None, f"{name}_low": low, f"{name}_high": high}
    return row | {"p_holm": j.p, "detectable": j.detectable, "verdict": j.word, "about_models": int(j.about_models)}
