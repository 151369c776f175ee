"""Every number a report can show, one row a metric, each with the way to get it from a record.

A new metric is one new row. A value that was not measured is `None` and stays `None`: no row turns it into a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from results.names import unknown
from results.record import PHASES, START, Cost, Record, Score


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One row of the table."""

    name: str
    unit: str  # of the value as stored: "fraction", "params", "bytes", "seconds", "tokens/second"
    direction: str  # "higher" or "lower" is better
    label: str  # column heading, without the unit
    format: str  # Python format specification of the number as a report shows it
    get: Callable[[Record], float | None]


def macro_accuracy(record: Record) -> float | None:
    """Mean over the spec's tasks, each with the same weight; None unless every one has a score."""
    scores = record.scores
    if not scores or any(task not in scores for task in record.spec.tasks):
        return None
    return sum(scores[task].value for task in record.spec.tasks) / len(record.spec.tasks)


def micro_accuracy(record: Record) -> float | None:
    """Mean over documents, so that large tasks weigh more; None unless every task has a score."""
    scores = record.scores
    if not scores or any(task not in scores for task in record.spec.tasks):
        return None
    documents = sum(scores[task].count for task in record.spec.tasks)
    return sum(scores[t].value * scores[t].count for t in record.spec.tasks) / documents if documents else None


def bits_per_byte(score: Score) -> list[float] | None:
    """Return each document's bits a byte of the right choice, lower is better: how well it was learned.

    Documents without a single right choice are left out. None where a score holds no choices.
    """
    documents = bits_of_choices(score)
    return None if documents is None else [-bits[gold] for bits, gold in documents]


def margin_per_byte(score: Score) -> list[float] | None:
    """Return each document's margin in bits a byte of the right choice over the best wrong one, higher is better.

    Documents and None as in `bits_per_byte`; documents with one choice have no margin either.
    """
    documents = bits_of_choices(score)
    if documents is None:
        return None
    return [bits[gold] - max(b for i, b in enumerate(bits) if i != gold) for bits, gold in documents if len(bits) > 1]


def bits_of_choices(score: Score) -> list[tuple[list[float], int]] | None:
    """Return (log2-likelihood a byte of every choice, index of the right one) of each document with a single one."""
    if score.loglikelihoods is None or score.choice_bytes is None or score.gold is None:
        return None
    documents = zip(score.loglikelihoods, score.choice_bytes, score.gold, strict=True)
    return [
        ([x / math.log(2) / max(size, 1) for x, size in zip(values, sizes, strict=True)], gold)
        for values, sizes, gold in documents
        if gold is not None
    ]


def macro_bits_per_byte(record: Record) -> float | None:
    """Mean over the spec's tasks of the mean over documents; None unless every task has choices."""
    return _macro(record, bits_per_byte)


def macro_margin_per_byte(record: Record) -> float | None:
    """Mean over the spec's tasks of the mean over documents; None unless every task has choices."""
    return _macro(record, margin_per_byte)


def _macro(record: Record, of: Callable[[Score], list[float] | None]) -> float | None:
    by_task = [of(s) for t in record.spec.tasks if (s := (record.scores or {}).get(t)) is not None]
    means = [sum(values) / len(values) for values in by_task if values]
    return sum(means) / len(means) if means and len(means) == len(record.spec.tasks) else None


def unparseable(record: Record) -> float | None:
    """Share of the written answers in which no answer was found, mean over the tasks; None where none were written."""
    shares = [s.all_metrics["unparseable"] for s in (record.scores or {}).values() if "unparseable" in s.all_metrics]
    return sum(shares) / len(shares) if shares else None


def phase_peak_bytes(record: Record, phase: str) -> int | None:
    """Peak of one phase: what the allocator of an accelerator gave out, the resident memory of the process on a CPU."""
    cost = record.costs.get(phase)
    return None if cost is None else _peak(record, cost)


def peak_bytes(record: Record) -> int | None:
    """Largest peak among the measured phases of `PHASES`."""
    peaks = [peak for cost in _main(record) if (peak := _peak(record, cost)) is not None]
    return max(peaks, default=None)


def active_params(record: Record) -> float | None:
    """Adapter parameters that a token meets; never those that were pruned, which early records still count."""
    counts = record.parameters
    if counts is None or counts.active_per_token is None:
        return None
    return min(n for n in (counts.active_per_token, counts.after_pruning) if n is not None)


def wall_seconds(record: Record, phase: str | None = None) -> float | None:
    """Wall-clock of one phase, or of `PHASES` together; None when it was not reached."""
    if phase is not None:
        cost = record.costs.get(phase)
        return None if cost is None else cost.wall_seconds
    seconds = [cost.wall_seconds for cost in _main(record)]
    return sum(seconds) if seconds else None


def job_seconds(record: Record) -> float | None:
    """Wall-clock of the whole job from the start of its process; None where that was not measured."""
    return sum(cost.wall_seconds for cost in record.costs.values()) if START in record.costs else None


def around_seconds(record: Record) -> float | None:
    """Wall-clock of the job outside of `PHASES`: imports, tasks, tokens, description, saving; None as `job_seconds`."""
    whole, main = job_seconds(record), wall_seconds(record)
    return None if whole is None or main is None else whole - main


def tokens_per_second(record: Record, phase: str) -> float | None:
    """Tokens through the model, padding left out, by wall-clock; None for a phase that saw none."""
    cost = record.costs.get(phase)
    if cost is None or not cost.tokens or not cost.wall_seconds:
        return None
    return cost.tokens / cost.wall_seconds


def _main(record: Record) -> list[Cost]:
    return [cost for phase, cost in record.costs.items() if phase in PHASES]


def _peak(record: Record, cost: Cost) -> int | None:
    return cost.peak_resident_bytes if record.spec.device == "cpu" else cost.peak_allocated_bytes


def _parameters(field: str) -> Callable[[Record], float | None]:
    return lambda record: None if record.parameters is None else getattr(record.parameters, field)


def _phase(get: Callable[[Record, str], float | None], phase: str) -> Callable[[Record], float | None]:
    return lambda record: get(record, phase)


def _count(name: str, label: str, field: str) -> Metric:
    return Metric(name=name, unit="params", direction="lower", label=label, format=",.0f", get=_parameters(field))


def _memory(name: str, label: str, get: Callable[[Record], float | None], format: str = ",.0f") -> Metric:
    return Metric(name=name, unit="bytes", direction="lower", label=label, format=format, get=get)


def _alone(get: Callable[[Record], float | None]) -> Callable[[Record], float | None]:
    """Give no time of a record that was measured while the machine did other work."""
    return lambda record: None if record.environment.get("shared_machine") else get(record)


def _time(name: str, label: str, get: Callable[[Record], float | None]) -> Metric:
    return Metric(name=name, unit="seconds", direction="lower", label=label, format=",.1f", get=_alone(get))


def _accuracy(name: str, label: str, get: Callable[[Record], float | None]) -> Metric:
    return Metric(name=name, unit="fraction", direction="higher", label=label, format=".1f", get=get)


def _bits(name: str, label: str, direction: str, get: Callable[[Record], float | None]) -> Metric:
    return Metric(name=name, unit="bits", direction=direction, label=label, format=".4f", get=get)


def _speed(name: str, label: str, phase: str) -> Metric:
    get = _alone(_phase(tokens_per_second, phase))
    return Metric(name=name, unit="tokens/second", direction="higher", label=label, format=",.0f", get=get)


METRICS: tuple[Metric, ...] = (
    _accuracy("macro_accuracy", "Macro mean", macro_accuracy),
    _accuracy("micro_accuracy", "Micro mean", micro_accuracy),
    _bits("bits_per_byte", "Bits per byte", "lower", macro_bits_per_byte),
    _bits("margin_per_byte", "Margin per byte", "higher", macro_margin_per_byte),
    Metric(
        name="first_step",
        unit="logits",
        direction="higher",
        label="First step",
        format=".3f",
        get=lambda record: record.first_step,
    ),
    Metric(name="unparseable", unit="fraction", direction="lower", label="Unparseable", format=".1f", get=unparseable),
    _count("trainable_params", "Trainable", "trainable"),
    _count("after_pruning_params", "After pruning", "after_pruning"),
    _count("expert_params", "Experts", "experts"),
    _count("router_params", "Router", "router"),
    Metric(
        name="active_params",
        unit="params",
        direction="lower",
        label="Active per token",
        format=",.0f",
        get=active_params,
    ),
    _count("total_params", "Total", "total"),
    _memory("adapter_bytes", "Adapter", _parameters("adapter_bytes"), ",.1f"),
    _memory("peak_bytes", "Peak memory", peak_bytes),
    *(_memory(f"peak_{phase}_bytes", f"Peak, {phase}", _phase(phase_peak_bytes, phase)) for phase in PHASES),
    _time("total_seconds", "Time", wall_seconds),
    *(_time(f"{phase}_seconds", f"Time, {phase}", _phase(wall_seconds, phase)) for phase in PHASES),
    _time("around_seconds", "Time, around", around_seconds),
    _time("job_seconds", "Time, whole job", job_seconds),
    _speed("train_speed", "Train speed", "train"),
    _speed("evaluate_speed", "Evaluate speed", "evaluate"),
)


def metric(name: str) -> Metric:
    """Return the row called `name`. Raises ValueError with the nearest names."""
    for row in METRICS:
        if row.name == name:
            return row
    raise unknown("metric", name, [row.name for row in METRICS])
