"""The verdicts as tables and as rows for a CSV: the intervals of both questions, and the words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports.analysis.crossed import Estimate
from reports.analysis.groups import Group
from reports.analysis.measures import ACCURACY, CHOOSING, LEARNING, Measure
from reports.analysis.verdicts import LOSS, Judged, margins
from results.table import NOTHING, Table

COLUMNS = ("Method", "Seeds", "Difference", "These models", "The method", "Detectable", "Verdict")
HOW = {
    ACCURACY.name: "Mean over tasks of the share of right answers, in points.",
    LEARNING.name: "Primary measure of learning: bits a byte of the right answer, mean over documents and tasks.",
    CHOOSING.name: "Primary measure of choosing: bits a byte of the right answer above the best wrong one.",
    LOSS.name: "Nats a token, mean over the steps after the first tenth; errors allow for autocorrelation.",
}


def verdict_tables(group: Group) -> list[Table]:
    """One table for each measure of each comparison that the report shows."""
    return [
        _table(group, judged)
        for by_measure in group.judged
        for judged in by_measure.values()
    ]  # fmt: skip


def verdict_rows(group: Group) -> list[dict[str, Any]]:
    """One row a method, reference and measure, in the unit of the measure (accuracy as a fraction)."""
    return [_row(j) for by_measure in group.judged for judged in by_measure.values() for j in judged]


def _table(group: Group, judged: Sequence[Judged]) -> Table:
    measure, reference = judged[0].measure, judged[0].reference
    rows = tuple(
        (
            j.row.label,
            _seeds(j),
            _number(measure, j.paired.value),
            _interval(measure, j.paired.models),
            _interval(measure, j.paired.method),
            NOTHING if j.detectable is None else _number(measure, j.detectable).lstrip("+"),
            j.text,
        )
        for j in judged
    )
    margin = margins().get(measure.name)
    better = "more" if measure.higher else "less"
    limit = _number(measure, margin).lstrip("+") if margin else NOTHING
    notes = [
        f"{measure.sentence} {HOW[measure.name]} Above 0: more than {reference.label}; {better} is better.",
        "These models: 95% interval over documents, for the models that were trained. The method: over documents and "
        "seeds, for models trained with other seeds as well; with one seed that is not known.",
        "Verdict (5%, Holm-adjusted over the methods): better, worse, equivalent (a difference beyond the margin of "
        f"{limit} is ruled out), or undecided. Detectable: the smallest true difference that this test finds in 80% of "
        "such evaluations.",
    ]
    columns = tuple(f"{name} ({measure.unit})" if name == "Difference" and measure.unit else name for name in COLUMNS)
    left = frozenset({0, len(columns) - 1})
    return Table(f"{measure.label}: difference to {reference.label}", columns, rows, left, notes=tuple(notes))


def _seeds(j: Judged) -> str:
    return ", ".join(map(str, sorted(set(j.row.seeds) & set(j.reference.seeds))))


def _number(measure: Measure, value: float) -> str:
    return f"{measure.scale * value:{measure.format}}".replace("-", "−")


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
