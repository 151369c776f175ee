"""What has to be said below a table: where its numbers come from, how sure they are, and what they leave out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from reports.analysis.groups import Group, Row
from reports.analysis.measures import LEARNING
from reports.analysis.summary import Comparison, Summary, detectable
from reports.analysis.tuning import tuned_rows
from reports.analysis.verdicts import judge_rows
from reports.analysis.wording import names

SMALL = 0.1  # of the reference's first step: a method below that hardly moves at this rate


def accuracy_notes(group: Group, summaries: Sequence[Summary], columns: Sequence[str] = ()) -> tuple[str, ...]:
    """Say what belongs below a table of accuracies."""
    notes = []
    if group.data:
        notes.append(f"Data: {group.data}.")
    notes.append(terms_note(group))
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
    notes.append(contributed_note(summaries))
    notes.append(rates_note(group))
    notes.append(sizes_note(group))
    notes.append(learned_note(group))
    notes.append(detectable_note(group))
    if group.differing:
        notes.append(f"Allowed to differ between these records: {', '.join(sorted(group.differing))}.")
    return tuple(note for note in notes if note)


def terms_note(group: Group) -> str:
    """Say that steps were of unequal scale, as in records from before suites had versions; nothing elsewhere."""
    if None not in {r.spec.suite_version for r in group.records if r.spec.epochs}:
        return ""
    return (
        "Unequal terms: these records are of the first suite version, in which one step of a mixture moved the answers "
        "a quarter as far as one of lora; a difference to lora is partly one of step size."
    )


def contributed_note(summaries: Sequence[Summary]) -> str:
    """Say which rows hold records that somebody else measured; nothing where none does."""
    rows = [s.row for s in summaries]
    sent = {row.label: [r.spec.seed for r in (*row.done, *row.failed) if r.contributed] for row in rows}
    texts = [
        label if len(seeds) == len(row.done) + len(row.failed) else f"{label} (seeds {', '.join(map(str, seeds))})"
        for row, (label, seeds) in zip(rows, sent.items(), strict=True)
        if seeds
    ]
    return f"Contributed by others, checked and not repeated here: {names(texts)}." if texts else ""


def rates_note(group: Group) -> str:
    """Say which rows have a learning rate of their own choice; nothing where nothing was trained."""
    trained = [row for row in group.finished if row.done[0].losses]
    tuned = tuned_rows(group)
    others = [row.label for row in trained if row.label not in tuned]
    if not trained or not others:
        return "Learning rates were chosen on held-out training documents, for every row." if trained else ""
    if tuned:
        return f"Learning rate not tuned: {names(others)}."
    rates: dict[float, list[str]] = {}
    for row in trained:
        rates.setdefault(row.done[0].spec.learning_rate, []).append(row.label)
    if len(rates) == 1:
        return f"No learning rate was tuned: all rows are at {next(iter(rates)):g}."
    *own, (shared, _) = sorted(rates.items(), key=lambda item: len(item[1]))
    other = "; ".join(f"{names(labels)} at {rate:g}" for rate, labels in own)
    return f"No learning rate was tuned: rows are at {shared:g}, but {other}."


def sizes_note(group: Group) -> str:
    """Say which rows could not have the size that all were to have, and how far off they are; nothing elsewhere."""
    off = {
        row.label: fact["residual"]
        for row in group.finished
        if (fact := row.done[0].facts.get("match", {})).get("as_published")
    }
    texts = [f"{label} ({residual:+.0%})" for label, residual in off.items()]
    return f"As published, since they cannot have the size of the others: {'; '.join(texts)}." if texts else ""


def learned_note(group: Group) -> str:
    """Say which trained rows do not lie below `frozen` by more than the 95% interval; nothing without both."""
    floor = group.own(["frozen"])
    judged = judge_rows(group.rows, group.tasks, floor[0], LEARNING) if floor else []
    if not judged:
        return ""
    unlearned = [j.row for j in judged if j.asked is None or not j.asked.interval(0.95)[1] < 0]
    slow = _slow(group, [j.row for j in judged])
    if not unlearned:
        text = "Every trained method has fewer bits per byte than frozen, beyond the 95% interval of the difference."
    else:
        text = (
            f"Not shown to have fewer bits per byte than frozen (95% interval): {names([r.label for r in unlearned])}."
        )
    return f"{text} {slow}" if slow else text


def _slow(group: Group, rows: list[Row]) -> str:
    """Say which rows moved the answers far less than the reference in their first step, and so learn late."""
    base = next(((row.label, step) for row in group.references if (step := _first_step(row)) is not None), None)
    if base is None:
        return ""
    small = [(row, step) for row in rows if (step := _first_step(row)) is not None and step < SMALL * base[1]]
    if not small:
        return ""
    texts = [f"{row.label} ({step:.3f} logits)" for row, step in small]
    steps = max(len(row.done[0].losses or ()) for row, _ in small)
    return (
        f"A first step that moves the answers less than a tenth as far as that of {base[0]} ({base[1]:.3f} logits): "
        f"{names(texts)}. What starts so slowly learns little in {steps} steps at this rate; that is no verdict on "
        "the method."
    )


def _first_step(row: Row) -> float | None:
    """Mean over the seeds of how far the first optimiser step moved the answers, in logits."""
    steps = [record.first_step for record in row.done if record.first_step is not None]
    return mean(steps) if steps else None


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


def parameter_notes(group: Group) -> tuple[str, ...]:
    """Say what belongs below a table of parameters."""
    return (
        "Total: base model and adapter. Active per token: of the adapter. Experts, router: parts of what is trained. "
        "Adapter: size of the saved file, MB = 10⁶ bytes.",
    )


def cost_notes(group: Group) -> tuple[str, ...]:
    """Say what belongs below a table of costs."""
    devices = sorted({r.spec.device for r in group.records})
    kind = "allocated on the device" if not {"cpu", "mps"} & set(devices) else "resident memory of the process"
    name = group.shared.get("device_name")
    versions = ", ".join(f"{n} {group.shared[n]}" for n in ("torch", "transformers", "peft") if group.shared.get(n))
    where = ", ".join(str(x) for x in (name or "/".join(devices), group.shared.get("dtype"), versions) if x)
    return (
        f"Peak memory: {kind}, base model included, MB = 10⁶ bytes. "
        "Time: wall-clock in s; allocate is the method's own search. Speed: tokens without padding.",
        f"Measured on {where}.",
        *_shared_note(group),
        *_busy_note(group),
    )


def _shared_note(group: Group) -> tuple[str, ...]:
    shared = [row.label for row in group.finished if any(r.environment.get("shared_machine") for r in row.done)]
    if not shared:
        return ()
    which = "All rows were" if len(shared) == len(group.finished) else f"Rows {names(shared)} were"
    return (f"{which} measured while the machine did other work: they give no times.",)


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
