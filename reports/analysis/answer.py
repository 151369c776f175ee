"""The answer of a group of records in words: which method, how sure, at what cost. It never says more than they show.

A tie is called a tie, one seed is called one seed, and being above another method needs the paired test of `stats`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.analysis.groups import Group
from reports.analysis.summary import Summary, references, summarise
from reports.render.notes import EMBEDDED, detectable_note, names, seeds_text
from reports.render.tables import SHOWN, interval_text, metric_text
from results.metrics import metric

COSTS = {  # metric: its noun, and the phrase for its smallest value
    "trainable_params": ("trainable parameters", "fewest trainable parameters"),
    "peak_bytes": ("peak memory", "least memory"),
    "total_seconds": ("wall-clock", "least time"),
}


@dataclass(frozen=True)
class Answer:
    """Sentences, ready to show."""

    verdict: str
    sure: tuple[str, ...]
    cost: tuple[str, ...]
    failed: tuple[str, ...]  # methods without a record or with one missing, and why


def answer(group: Group) -> Answer:
    """What the records of `group` say; with none finished, that they say nothing."""
    summaries = summarise(group)
    failed = tuple(f"{s.row.label}: {s.note}" for s in summaries if s.note)
    best = next((s for s in summaries if s.best and s.macro is not None), None)
    if best is None:
        return Answer("No answer: no job of this group has finished.", (), (), failed)
    tied = [s for s in summaries if s.tied]
    others = [s for s in summaries if s.macro is not None and s is not best]
    return Answer(_verdict(best, tied, others), _sure(group, best), _cost(group, [best, *tied]), failed)


def _verdict(best: Summary, tied: Sequence[Summary], others: Sequence[Summary]) -> str:
    mean = f"{100 * (best.macro or 0):.1f}%"
    if not others:
        return f"No comparison: {best.row.label} ({mean}) is the only method with a finished job."
    equal = [s for s in others if s.best]
    near, below = ([s for s in others if not s.best and (s in tied) is near] for near in (True, False))
    share, them = ("share", "them") if equal else ("has", "it")
    text = f"{_names([best, *equal])} {share} the highest macro mean of {_many(len(others) + 1, 'contestant')}, {mean}"
    if below:
        what = "every other one" if not tied else _names(below) if len(below) <= 4 else f"{len(below)} others"
        text += f", and {what} {'is' if len(below) == 1 or not tied else 'are'} shown to be below {them}"
    else:
        text = f"No method is shown to be better: {text}"
    if near:
        rest = f"{_names(near)} cannot" if len(near) <= 4 else f"{len(near)} others cannot"
        text += f", but {rest} be told from {them}"
    untrained = [s for s in (best, *tied) if s.metrics["trainable_params"] == 0]
    return f"{text}." + (f" Training is not shown to help: {_names(untrained)} trains nothing." if untrained else "")


def _sure(group: Group, best: Summary) -> tuple[str, ...]:
    counts = [len(best.row.outcomes(task)) for task in group.tasks]
    found = [
        f"Macro mean of {best.row.label}: {100 * (best.macro or 0):.1f}%, 95% interval "
        f"{interval_text(best.macro_interval)}% over {sum(counts):,} documents of {_many(len(counts), 'task')}."
        if best.macro_interval
        else f"No interval: {sum(counts):,} documents of {_many(len(counts), 'task')} are too few for one.",
        "Methods are compared on the same documents (paired max-T test over all pairs, since these documents also pick "
        "the best); a tie means that these documents do not tell methods apart, not that the methods are equal.",
        detectable_note(group),
        _seeds(group, best),
    ]
    if group.embedded:
        found.append(f"Data: {EMBEDDED}.")
    return tuple(found)


def _seeds(group: Group, best: Summary) -> str:
    by_row = {row.label: row.seeds for row in group.finished}
    if all(len(seeds) == 1 for seeds in by_row.values()):
        return "One seed a method: the tests speak of these trained models; what another seed would give is not known."
    if len({tuple(seeds) for seeds in by_row.values()}) > 1:
        text = f"Not every method has the same seeds: {seeds_text(by_row)}. Two methods are tested on those they share."
    else:
        text = f"Seeds {', '.join(map(str, best.row.seeds))}."
    if best.macro_deviation is not None:
        text += (
            f" The macro mean of {best.row.label} has a standard deviation of {100 * best.macro_deviation:.1f} points "
            "over its seeds, which the intervals (over documents) leave out."
        )
    return text


def _cost(group: Group, candidates: Sequence[Summary]) -> tuple[str, ...]:
    """The best method's cost, beside the first reference's; and who is cheapest among those tied with it."""
    best = candidates[0]
    found = [f"{best.row.label}: {_costs(best)}."]
    base = next((s for row in references(group)[:1] for s in summarise(group) if s.row is row), None)
    if base is not None and base is not best:
        shares = [_share(name, best, base) for name in COSTS]
        found.append(f"Beside {base.row.label}: {', '.join(s for s in shares if s)}.")
    trained = [s for s in candidates if s.metrics["trainable_params"] != 0]
    least = []
    for name in COSTS if len(trained) > 1 else ():
        known = {s.row.label: value for s in trained if (value := s.metrics[name]) is not None}
        if len(known) == len(trained):
            low = min(known.values())
            least.append(f"{COSTS[name][1]}: {names([label for label, value in known.items() if value == low])}")
    if least:
        found.append(f"Of the trained methods tied for the best, {'; '.join(least)}.")
    if all(len(s.row.done) == 1 for s in candidates):
        found.append("Every time and peak was measured once.")
    return tuple(found)


def _costs(s: Summary) -> str:
    parts = []
    for name, (noun, _) in COSTS.items():
        row, value = metric(name), s.metrics[name]
        number = f"{metric_text(row, value, compact=True)} {SHOWN[row.unit][0]}".strip()
        parts.append(f"{noun} not measured" if value is None else f"{number} {noun}")
    return ", ".join(parts)


def _share(name: str, s: Summary, base: Summary) -> str:
    value, other = s.metrics[name], base.metrics[name]
    if value is None or not other:
        return ""
    percent = round(100 * (value / other - 1))
    signed = f"{percent:+d}%".replace("-", "−")  # not the hyphen of wall-clock
    return f"{signed} {COSTS[name][0]}" if percent else f"the same {COSTS[name][0]} (±0.5%)"


def _names(summaries: Sequence[Summary]) -> str:
    return names([s.row.label for s in summaries])


def _many(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' if number != 1 else ''}"
