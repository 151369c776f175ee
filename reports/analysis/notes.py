"""What has to be said below a table: where its numbers come from, how sure they are, and what they leave out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.analysis.groups import Group, Row
from reports.analysis.summary import Comparison, Summary, detectable
from reports.analysis.tuning import tuned_rates

EMBEDDED = "embedded split, not comparable with published numbers"
FIRST_TERMS = None  # suite version of records from before scales were made equal
UNEQUAL = (
    "Unequal terms: these records are of the first suite version, in which one step of a mixture moved the answers a "
    "quarter as far as one of lora; a difference to lora is partly one of step size."
)


def accuracy_notes(group: Group, summaries: Sequence[Summary], columns: Sequence[str] = ()) -> tuple[str, ...]:
    """Say what belongs below a table of accuracies."""
    notes = []
    if group.embedded:
        notes.append(f"Data: {EMBEDDED}.")
    if FIRST_TERMS in {r.spec.suite_version for r in group.records if r.spec.epochs}:
        notes.append(UNEQUAL)
    if any(s.macro is not None for s in summaries):
        test = (
            "over documents and seeds, Tukey's range test of all pairs of methods"
            if over_seeds(group)
            else "paired max-T test over documents and all pairs of methods: about these trained models"
        )
        tied = any(s.tied for s in summaries)
        tie = f"; ≈: not significantly different from the best ({test}, p ≥ 0.05)" if tied else ""
        interval = ", the 95% interval ±1.96 of them" if "macro_interval" in columns else ""
        notes.append(f"± is one standard error over documents{interval}. Bold: highest macro mean{tie}.")
        notes.append(seeds_note([s.row for s in summaries]))
    if any(s.metrics["unparseable"] is not None for s in summaries):
        notes.append("Unparseable: share of the written answers in which no answer was found; each counts as wrong.")
    notes.append(rates_note(group))
    notes.append(detectable_note(group))
    if group.differing:
        notes.append(f"Allowed to differ between these records: {', '.join(sorted(group.differing))}.")
    return tuple(note for note in notes if note)


def rates_note(group: Group) -> str:
    """Say which rows have a learning rate of their own choice; nothing where nothing was trained."""
    trained = [row for row in group.finished if row.done[0].losses]
    tuned = tuned_rates(group)
    others = [row.label for row in trained if row.label not in tuned]
    if not trained or not others:
        return "Learning rates were chosen on held-out training documents, for every row." if trained else ""
    if tuned:
        return f"Learning rate not tuned: {names(others)}."
    rates = {row.done[0].spec.learning_rate for row in trained}
    return f"No learning rate was tuned{f': all rows are at {rates.pop():g}' if len(rates) == 1 else ''}."


def over_seeds(group: Group) -> bool:
    """Whether bests and ties are about the methods: every finished row shares two seeds or more with all others."""
    seeds = [set(row.seeds) for row in group.finished]
    return bool(seeds) and len(set.intersection(*seeds)) > 1


def seeds_note(rows: Sequence[Row]) -> str:
    """Say which seeds the rows have."""
    seeds = {row.label: row.seeds for row in rows if row.done}
    if all(len(own) == 1 for own in seeds.values()):
        return "One seed: how much another seed would change is not known."
    return f"Seeds {seeds_text(seeds)}; SD is over seeds."


def seeds_text(seeds: Mapping[str, Sequence[int]]) -> str:
    """{label: its seeds} in words: "0, 1", or "0, 1 of lora and molora; 0 of the others"."""
    sharing: dict[str, list[str]] = {}
    for label, own in seeds.items():
        sharing.setdefault(", ".join(map(str, own)) or "none", []).append(label)
    if len(sharing) == 1:
        return next(iter(sharing))
    *fewer, (most, rest) = sorted(sharing.items(), key=lambda item: len(item[1]))
    others = rest[0] if len(rest) == 1 else "the others"
    return "; ".join([*(f"{own} of {names(labels)}" for own, labels in fewer), f"{most} of {others}"])


def names(labels: Sequence[str]) -> str:
    """Join names with commas and "and"."""
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"


def parameter_notes(group: Group) -> tuple[str, ...]:
    """Say what belongs below a table of parameters."""
    return (
        "Total: base model and adapter. Active per token: of the adapter. Experts, router: parts of what is trained. "
        "Adapter: size of the saved file, MB = 10⁶ bytes.",
    )


def cost_notes(group: Group) -> tuple[str, ...]:
    """Say what belongs below a table of costs."""
    devices = sorted({r.spec.device for r in group.records})
    kind = "allocated on the device" if devices == ["cuda"] else "resident memory of the process"
    name = group.shared.get("device_name")
    versions = ", ".join(f"{n} {group.shared[n]}" for n in ("torch", "transformers", "peft") if group.shared.get(n))
    where = ", ".join(str(x) for x in (name or "/".join(devices), group.shared.get("dtype"), versions) if x)
    return (
        f"Peak memory: {kind}, base model included, MB = 10⁶ bytes. "
        "Time: wall-clock in s; allocate is the method's own search. Speed: tokens without padding.",
        f"Measured on {where}.",
        *_busy_note(group),
    )


def _busy_note(group: Group) -> tuple[str, ...]:
    found = [x for r in group.records if (x := r.environment.get("device_busy_bytes")) is not None]
    if not found:
        return ()
    share = f"{len(found)} of {len(group.records)} records"
    return (
        f"Somebody else used the device when {share} were measured (at most {max(found) / 1e6:,.0f} MB of it before "
        "the start): their times may be longer than on an idle one.",
    )


def detectable_note(group: Group) -> str:
    """Say how small a true difference would probably be missed."""
    compared = [(row, comparisons) for row in group.references if (comparisons := group.compare(row))]
    if not compared:
        return "How small a difference would be found is not known: no finished lora or molora to compare with another."
    for row, comparisons in compared:
        if span := span_text(comparisons):
            return (
                f"A true difference to {row.label} in the macro mean below {span} would probably be missed "
                "with so few documents: one of that size is found in 80% of such evaluations (two-sided test at 5%, "
                "Holm-adjusted over the methods)."
            )
    return "How small a difference would be found is not known: these documents do not tell the methods apart at all."


def span_text(comparisons: Sequence[Comparison]) -> str | None:
    """Points that could have been detected; a range where the methods differ."""
    found = detectable(comparisons)
    if found is None:
        return None
    low, high = (f"{100 * x:.1f}" for x in found)
    return f"{low} points" if low == high else f"{low} to {high} points, depending on the method,"
