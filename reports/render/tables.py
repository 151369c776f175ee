"""Which table shows what: the main table, its compact forms, and the paired differences.

Percent appears here and nowhere before. A CSV holds the same numbers as stored: fractions, bytes, seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from reports import roster
from reports.analysis import stats
from reports.analysis.groups import Group
from reports.analysis.notes import (
    accuracy_notes,
    cost_notes,
    parameter_notes,
    seeds_note,
    seeds_text,
    span_text,
)
from reports.analysis.summary import Comparison, Summary
from reports.analysis.wording import SHOWN, interval_text, metric_text, seed_count
from reports.figures.style import points_text
from results.metrics import METRICS, Metric, metric
from results.record import PHASES
from results.table import NOTHING, Table

TIE = " ≈"
MEASURED = ("bits_per_byte", "margin_per_byte", "first_step", "unparseable")  # that not every record has

ACCURACY = ("tasks", "macro", "macro_interval", *MEASURED)
PARAMETERS = (
    "trainable_params", "after_pruning_params", "expert_params", "router_params", "active_params", "total_params",
    "adapter_bytes",
)  # fmt: skip
COST = (
    "peak_bytes", *(f"peak_{phase}_bytes" for phase in PHASES),
    "total_seconds", *(f"{phase}_seconds" for phase in PHASES), "train_speed", "evaluate_speed",
)  # fmt: skip
COMPACT = ("macro", "tasks", *MEASURED, "trainable_params", "peak_bytes", "total_seconds")


def main_tables(group: Group, columns: Sequence[str] | None = None) -> list[Table]:
    """Accuracy, parameters and cost; or one table of the chosen columns, in their order.

    A column is "macro", "macro_interval", "tasks" (all of them), one task, or the name of a metric.
    """
    summaries = group.summaries
    if columns is not None:
        return [method_table(group, summaries, columns, "Results", accuracy_notes(group, summaries, columns))]
    return [
        method_table(
            group,
            summaries,
            ACCURACY,
            "Accuracy (%)",
            accuracy_notes(group, summaries, ACCURACY),
            drop_empty=True,
            seeds=True,
        ),
        method_table(group, summaries, PARAMETERS, "Parameters", parameter_notes(group), drop_empty=True),
        method_table(group, summaries, COST, "Memory and time", cost_notes(group), drop_empty=True),
    ]


def full_table(group: Group, first: Sequence[str]) -> Table:
    """Every column there is, those of `first` in front; metrics that no row has are left out."""
    summaries = group.summaries
    tasks = [] if "tasks" in first else group.tasks
    every = ["macro", "macro_interval", *tasks, *(m.name for m in METRICS if m.name != "macro_accuracy")]
    notes = (*accuracy_notes(group, summaries, ("macro_interval",)), *parameter_notes(group), *cost_notes(group))
    columns = list(dict.fromkeys([*first, *every]))
    return method_table(group, summaries, columns, "By method", notes, drop_empty=True, seeds=True)


def compact_table(group: Group) -> Table:
    """Return the few columns that fit a README or a wide terminal."""
    summaries = group.summaries
    return method_table(group, summaries, compact_columns(summaries), "", compact_notes(group, summaries), compact=True)


def ablation_table(group: Group) -> list[Table]:
    """Other settings of a method below its own row, in one table; none where nothing was ablated."""
    if not group.ablations:
        return []
    methods = {row.method for row in group.ablations}
    shown = [s for s in group.whole.summaries if s.row.method in methods]
    shown = [replace(s, best=False, tied=False) for s in sorted(shown, key=lambda s: roster.rank(s.row.method))]
    notes = (
        "No contestants: these rows take no part in the tables above. ± is one standard error over documents; the "
        "paired tests are between contestants.",
        seeds_note([s.row for s in shown]),
    )
    return [
        method_table(
            group, shown, compact_columns(shown), "Other settings of a method, beside its own", notes, compact=True
        )
    ]


def main_csv(group: Group) -> list[dict[str, Any]]:
    """Everything the main tables show and every other metric, unrounded units; one dictionary a row."""
    rows = []
    for s in group.summaries:
        row: dict[str, Any] = {
            "method": s.row.label,
            "status": "done" if s.row.done and not s.row.failed else "partial" if s.row.done else "failed",
            "seeds": " ".join(map(str, s.row.seeds)),
            "macro_accuracy": s.macro,
            "macro_stderr": s.macro_stderr,
            "macro_low": s.macro_interval[0] if s.macro_interval else None,
            "macro_high": s.macro_interval[1] if s.macro_interval else None,
            "macro_seed_sd": s.macro_deviation,
            "best": int(s.best),
            "best_p": s.best_p,
            "tied_with_best": int(s.tied),
        }
        for task in group.tasks:
            row[f"{task}"], row[f"{task}_stderr"] = s.tasks.get(task, (None, None))
        row.update({m.name: s.metrics[m.name] for m in METRICS if m.name != "macro_accuracy"})
        rows.append({**row, "note": s.note or None})
    return rows


def paired_table(group: Group) -> tuple[list[Table], list[dict[str, Any]]]:
    """Differences to each reference in points, the controls' to their method too, as tables and as rows for a CSV."""
    tables, rows = [], []
    for comparisons in group.contrasts:
        tables.append(_paired(group, comparisons))
        rows += [_paired_row(c) for c in comparisons]
    return tables, rows


def compact_columns(summaries: Sequence[Summary]) -> list[str]:
    """Return the compact columns; unlike the others, those of `MEASURED` are left out where no row has one."""
    return [c for c in COMPACT if c not in MEASURED or any(s.metrics[c] is not None for s in summaries)]


def compact_notes(group: Group, summaries: Sequence[Summary]) -> tuple[str, ...]:
    """Say which methods failed, and what belongs below a table of accuracies."""
    failures = tuple(f"{s.row.label}: {s.note}." for s in summaries if s.note)
    return (*failures, *accuracy_notes(group, summaries))


def method_table(
    group: Group,
    summaries: Sequence[Summary],
    columns: Sequence[str],
    title: str,
    notes: tuple[str, ...],
    drop_empty: bool = False,
    compact: bool = False,
    seeds: bool = False,
) -> Table:
    """drop_empty: leave out metrics that no row has. compact: no error per task, rounded counts, no note column.

    seeds: print each row's seeds though none has several.
    """
    made: list[tuple[str, Callable[[Summary], str]]] = [("Method", lambda s: s.row.label)]
    bold_column = None
    if seeds or any(len(s.row.done) > 1 for s in summaries):
        made.append(("Seeds", lambda s: seed_count(s.row.seeds)))
    for name in columns:
        if name == "tasks":
            made += [(task, _task_cell(task, compact)) for task in group.tasks]
        elif name in group.tasks:
            made.append((name, _task_cell(name, compact)))
        elif name == "macro":
            bold_column = len(made)
            made.append(("Macro mean", _macro_cell))
            if any(s.macro_deviation is not None for s in summaries):
                made.append(("SD (seeds)", lambda s: _percent(s.macro_deviation)))
        elif name == "macro_interval":
            made.append(("95% interval", _interval_cell))
        else:
            row = metric(name)
            if not drop_empty or any(s.metrics[name] is not None for s in summaries):
                made.append((_heading(row), _metric_cell(row, compact)))
    if any(s.note for s in summaries) and not compact:
        made.append(("Note", lambda s: s.note))
    rows = tuple(tuple(cell(s) for _, cell in made) for s in summaries)
    bold = frozenset((i, bold_column) for i, s in enumerate(summaries) if s.best and bold_column is not None)
    left = frozenset({0, len(made) - 1}) if made[-1][0] == "Note" else frozenset({0})
    return Table(title, tuple(name for name, _ in made), rows, left, bold, notes)


def short(group: Group, table: Table) -> Table:
    """Return the table without the group's title, where that stands above already."""
    return replace(table, title=table.title.removesuffix(f": {group.title}"))


def captioned(group: Group, table: Table) -> Table:
    """Return the table with the group's title, where it stands alone."""
    return replace(table, title=f"{table.title}: {group.title}" if table.title else group.title)


def _heading(row: Metric) -> str:
    unit = SHOWN.get(row.unit, (row.unit, 1.0))[0]
    return f"{row.label} ({unit})" if unit else row.label


def _metric_cell(row: Metric, compact: bool) -> Callable[[Summary], str]:
    return lambda s: metric_text(row, s.metrics[row.name], compact)


def _task_cell(task: str, compact: bool) -> Callable[[Summary], str]:
    def cell(s: Summary) -> str:
        value, error = s.tasks.get(task, (None, None))
        return _percent(value, None if compact else error)

    return cell


def _interval_cell(s: Summary) -> str:
    return interval_text(s.macro_interval)


def _macro_cell(s: Summary) -> str:
    return _percent(s.macro, s.macro_stderr) + (TIE if s.tied and not s.best else "")


def _percent(value: float | None, error: float | None = None) -> str:
    if value is None:
        return NOTHING
    return f"{100 * value:.1f}" + (f" ± {100 * error:.1f}" if error is not None else "")


def _p(value: float | None) -> str:
    return NOTHING if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def _paired(group: Group, comparisons: Sequence[Comparison]) -> Table:
    reference = comparisons[0].reference
    rows = []
    for c in comparisons:
        d = c.macro
        interval = NOTHING if d.low is None or d.high is None else f"{points_text(d.low)} to {points_text(d.high)}"
        tasks = []
        for task in group.tasks:
            value, _, adjusted = c.tasks[task]
            tasks.append(points_text(value) + (" *" if adjusted is not None and adjusted < stats.ALPHA else ""))
        seeds = ", ".join(map(str, c.seeds)) or NOTHING
        rows.append((c.row.label, seeds, points_text(d.value), interval, _p(d.p), _p(c.macro_p), *tasks))
    seeds = seeds_text({c.row.label: c.seeds for c in comparisons})
    seeds = f"one seed, {seeds}" if seeds.isdigit() else f"seeds in common: {seeds}"
    notes = [
        f"Points of accuracy on the same documents. {_tested(comparisons)} Holm over {_methods(len(comparisons))}. "
        "*: p of the task, Holm-adjusted over methods and tasks, below 0.05.",
        "The reference was fixed beforehand; the best of the main table is picked by these documents, so that its ≈ "
        "counts all pairs.",
        f"Documents: {comparisons[0].documents}; {seeds}.",
    ]
    if span := span_text(comparisons):
        notes.append(f"A true difference below {span} would probably be missed (power 80%, two-sided 5%, Holm).")
    if group.data:
        notes.append(f"Data: {group.data}.")
    columns = ("Method", "Seeds", "Macro mean", "95% interval", "p", "p (Holm)", *group.tasks)
    return Table(f"Difference to {reference.label}", columns, tuple(rows), notes=tuple(notes))


def _tested(comparisons: Sequence[Comparison]) -> str:
    models = "paired bootstrap over documents, stratified by task; of one task McNemar's exact test"
    if all(len(c.seeds) > 1 for c in comparisons):
        return "Interval and p: over documents and seeds."
    if any(len(c.seeds) > 1 for c in comparisons):
        return f"Interval and p: over documents and seeds where two seeds or more are in common, else {models}."
    return f"Interval and p: {models}. One seed: about these trained models only."


def _methods(number: int) -> str:
    return f"{number} method{'s' if number != 1 else ''}"


def _paired_row(c: Comparison) -> dict[str, Any]:
    row: dict[str, Any] = {
        "method": c.row.label, "reference": c.reference.label, "documents": c.documents,
        "seeds": " ".join(map(str, c.seeds)), "difference": c.macro.value, "stderr": c.macro.stderr,
        "low": c.macro.low, "high": c.macro.high, "p": c.macro.p, "p_holm": c.macro_p,
    }  # fmt: skip
    for task, (value, p, adjusted) in c.tasks.items():
        row.update({task: value, f"{task}_p": p, f"{task}_p_holm": adjusted})
    return row
