"""The answer of a group of records in words: which method, how sure, at what cost. It never says more than they show.

A tie is called a tie, one seed is called one seed, and being above another method needs the paired test of `stats`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports import roster
from reports.analysis.groups import Group
from reports.analysis.notes import detectable_note, over_seeds, seeds_text, terms_note
from reports.analysis.summary import Summary
from reports.analysis.verdicts import BETTER, EQUIVALENT, UNDECIDED, WORSE, Judged
from reports.analysis.wording import SHOWN, interval_text, metric_text, names
from results.metrics import metric

COSTS = {  # metric: its noun, and the phrase for its smallest value
    "trainable_params": ("trainable parameters", "fewest trainable parameters"),
    "peak_bytes": ("peak memory", "least memory"),
    "total_seconds": ("wall-clock", "least time"),
}
MOST = 8  # methods that a sentence names; of more it names those of the README's table and counts the others
FEW = 3  # methods of one verdict that are always named
NOISE = 0.05  # what a time or a peak that was measured once may be off by without saying anything


@dataclass(frozen=True)
class Answer:
    """Sentences, ready to show."""

    verdict: str
    decided: tuple[str, ...]  # a sentence a measure and comparison: who is better, equivalent, worse
    decided_all: tuple[str, ...]  # the same with every method by name, where `decided` names the main ones alone
    sure: tuple[str, ...]
    cost: tuple[str, ...]
    failed: tuple[str, ...]  # methods without a record or with one missing, and why


def answer(group: Group) -> Answer:
    """Say what the records of `group` show; with none finished, that they show nothing."""
    summaries = group.summaries
    failed = tuple(f"{s.row.label}: {s.note}" for s in summaries if s.note)
    best = next((s for s in summaries if s.best and s.macro is not None), None)
    if best is None:
        return Answer("No answer: no job of this group has finished.", (), (), (), (), failed)
    tied = [s for s in summaries if s.tied]
    others = [s for s in summaries if s.macro is not None and s is not best]
    cost = _cost(group, [best, *tied])
    short, full = (_decided(group, most) for most in (MOST, len(group.rows)))
    return Answer(_verdict(best, tied, others), short, full if full != short else (), _sure(group, best), cost, failed)


def _verdict(best: Summary, tied: Sequence[Summary], others: Sequence[Summary]) -> str:
    mean = f"{100 * (best.macro or 0):.1f}%"
    if not others:
        return f"No comparison: {best.row.label} ({mean}) is the only method with a finished job."
    equal = [s for s in others if s.best]
    near, below = ([s for s in others if not s.best and (s in tied) is near] for near in (True, False))
    share, them = ("share", "them") if equal else ("has", "it")
    text = (
        f"{_names([best, *equal])} {share} the highest accuracy of {_many(len(others) + 1, 'method')}: {mean} of the "
        "answers are right on average over the tasks"
    )
    if below:
        what = "every other one" if not tied else _names(below) if len(below) <= 4 else f"{len(below)} others"
        text += f". Significantly less accurate: {what}"
    else:
        text = f"No method is shown to be better than the others. {text}"
    if near:
        text += f". Not significantly different from {them}: "
        text += _names(near) if len(near) <= 4 else f"{len(near)} others"
    untrained = [s for s in (best, *tied) if s.metrics["trainable_params"] == 0]
    return f"{text}." + (f" Training is not shown to help: {_names(untrained)} trains nothing." if untrained else "")


def _decided(group: Group, most: int) -> tuple[str, ...]:
    explained: set[str] = set()
    sentences = []
    for judged in (j for by_measure in group.judged for j in by_measure.values()):
        measure = judged[0].measure
        sentence = f" {measure.label}: {measure.sentence[0].lower()}{measure.sentence[1:]}"
        sentences.append(_decision(judged, most) + ("" if measure.name in explained else sentence))
        explained.add(measure.name)
    return tuple(sentences)


def _decision(judged: Sequence[Judged], most: int) -> str:
    """One measure against one reference: the methods of each verdict in words; of more than `most` the main ones."""
    measure, reference = judged[0].measure.label.lower(), judged[0].reference.label
    of_models = [j for j in judged if j.about_models]
    mixed = 0 < len(of_models) < len(judged)
    ends = {BETTER: f" than {reference}", WORSE: f" than {reference}", EQUIVALENT: f" to {reference}"}
    ends[UNDECIDED] = f" against {reference}"
    parts = []
    for word, end in ends.items():
        if of_word := [j for j in judged if j.word == word]:
            every = len(judged) <= most or len(of_word) <= FEW
            named = [j for j in of_word if every or roster.entry(j.row.method).in_readme]
            labels = [j.row.label + (" (these models)" if mixed and j.about_models else "") for j in named]
            if others := len(of_word) - len(named):
                labels.append(_many(others, "other") if named else _many(others, "method"))
            parts.append(f"{word}{end}: {names(labels)}")
    about = "" if mixed or not of_models else " One seed: this is about these trained models only."
    return f"In {measure}, {'; '.join(parts)}.{about}"


def _test(group: Group) -> str:
    """Name the test of bests and ties, as below the tables."""
    return "over documents and seeds, Tukey's range test" if over_seeds(group) else "paired max-T test"


def _sure(group: Group, best: Summary) -> tuple[str, ...]:
    counts = [len(best.row.outcomes(task)) for task in group.tasks]
    sentences = [
        f"Average accuracy of {best.row.label} over {_many(len(counts), 'task')}, each counting the same (macro mean): "
        f"{100 * (best.macro or 0):.1f}%. With other documents of the same kind it would differ; the range to expect "
        f"is {interval_text(best.macro_interval)}% (95% interval from {sum(counts):,} documents)."
        if best.macro_interval
        else f"No interval: {sum(counts):,} documents of {_many(len(counts), 'task')} are too few for one.",
        "Methods are compared document by document, with a test that allows for the number of pairs compared "
        f"({_test(group)}, 5%). Not significantly different means that these documents do not tell the methods apart, "
        "not that the methods are equal.",
        detectable_note(group),
        _seeds(group, best),
        terms_note(group),
        f"Data: {group.data}." if group.data else "",
    ]
    return tuple(sentence for sentence in sentences if sentence)


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
    """Say the best method's cost, beside the first reference's; and who is cheapest among those tied with it.

    Controls are no candidates: nobody would use them. Times and peaks within `NOISE` of the smallest count as equal.
    """
    best = candidates[0]
    sentences = [f"{best.row.label}: {_costs(best)}."]
    base = next((s for row in group.references[:1] for s in group.summaries if s.row is row), None)
    if base is not None and base is not best:
        shares = [_share(name, best, base) for name in COSTS]
        sentences.append(f"Compared with {base.row.label}: {', '.join(s for s in shares if s)}.")
    controls = roster.names("control")
    trained = [s for s in candidates if s.metrics["trainable_params"] != 0 and s.row.method not in controls]
    least = [text for name in (COSTS if len(trained) > 1 else ()) if (text := _least(name, trained))]
    if least:
        sentences.append(
            f"Of the trained methods that are not significantly different from the best, {'; '.join(least)}."
        )
    if all(len(s.row.done) == 1 for s in candidates):
        sentences.append("Every time and peak was measured once.")
    return tuple(sentences)


def _least(name: str, trained: Sequence[Summary]) -> str:
    """Who is cheapest in one cost; empty where it was not measured of all, or where noise hides who it is."""
    values = {s.row.label: value for s in trained if (value := s.metrics[name]) is not None}
    if len(values) < len(trained):
        return ""
    margin = 0.0 if name == "trainable_params" else NOISE
    low = min(values.values())
    cheapest = [label for label, value in values.items() if value <= low * (1 + margin)]
    if len(cheapest) == len(values):
        return ""
    return f"{COSTS[name][1]}: {names(cheapest)}" + (f" (within {margin:.0%})" if margin and len(cheapest) > 1 else "")


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
