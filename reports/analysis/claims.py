"""The ledger: what was claimed, and what these records say about it.

Five verdicts: reproduced, not reproduced, equivalent (a difference beyond the declared margin is ruled out),
undecidable (the records cannot tell, or are missing) and not comparable (another model, protocol, data split or
setting). Claims and thresholds are data, in `reports/claims.yaml`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reports.analysis import stats
from reports.analysis.groups import Group, Row
from reports.analysis.measures import MEASURES
from reports.analysis.study_answers import NO, YES, load_answers
from reports.analysis.summary import Summary
from reports.analysis.verdicts import BETTER, EQUIVALENT, LOSS, WORSE, Judged, judge_rows, margins
from results.metrics import metric
from results.names import pick
from results.table import Table

LEDGER = Path(__file__).resolve().parents[1] / "claims.yaml"
REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
UNDECIDABLE, NOT_COMPARABLE = "undecidable", "not comparable"
SEED_DEVIATION = 0.8  # points of the macro mean over seeds and library versions, of published repeats
BY_NAME = {m.name: m for m in (*MEASURES, LOSS)}
ANY = "any"  # a claim that names no model or protocol is judged on those of the records


@dataclass(frozen=True)
class Verdict:
    """One claim against one group of records."""

    claim: Mapping[str, Any]
    verdict: str
    evidence: str
    records: tuple[str, ...]  # keys


def load_claims(path: Path = LEDGER) -> list[dict[str, Any]]:
    """Read the ledger's claims. Raises ValueError naming a claim whose kind or fields are not known."""
    try:
        ledger = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    claims = ledger.get("claims", []) if isinstance(ledger, dict) else None
    if not isinstance(claims, list) or not all(isinstance(claim, dict) for claim in claims):
        raise ValueError(f"{path}: expected 'claims', a list of claims with their fields")
    for claim in claims:
        _refuse_types(claim)
        name, kind = claim.get("name"), claim.get("kind")
        if kind not in _NEEDED:
            raise ValueError(f"claim {name!r}: kind {kind!r} is none of {', '.join(sorted(_NEEDED))}")
        needed = {*_ALWAYS} | _NEEDED[kind]
        if missing := sorted(needed - set(claim)):
            raise ValueError(f"claim {name!r}: missing {', '.join(missing)}")
        for field in {"metric", "of"} & needed:
            metric(claim[field])
        for measure in claim.get("measures", ()):
            pick("measure", measure, BY_NAME)
    return claims


def _refuse_types(claim: Mapping[str, Any]) -> None:
    """Raise ValueError naming the claim, the field and the value that is not of the kind that the field holds."""
    for field, value in claim.items():
        if field in _NUMBERS:
            fits, wanted = type(value) in (int, float) and 0 < value < math.inf, "a number above 0"
        elif field in _LISTS:
            fits, wanted = isinstance(value, list) and all(isinstance(v, str) for v in value), "a list of names"
        else:
            fits, wanted = isinstance(value, str) and bool(value.strip()), "a text"
        if not fits:
            raise ValueError(f"claim {claim.get('name')!r:.80}: {field!r} must be {wanted}, got {value!r:.80}")


def judge(group: Group, claims: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """One verdict a claim."""
    return [_judge(group, claim) for claim in claims]


def ledger_table(group: Group, verdicts: Sequence[Verdict]) -> Table:
    """Claims as rows; their records are named below."""
    rows = tuple(
        (c["name"], c["statement"], v.verdict, v.evidence, _made_for(c), c["decided_by"], c["source"])
        for v in verdicts
        for c in [v.claim]
    )
    keys = sorted({key for v in verdicts for key in v.records})
    notes = [f"Records: {', '.join(keys)}."] if keys else []
    if group.data:
        notes.append(f"Data: {group.data}.")
    columns = ("Claim", "Statement", "Verdict", "Evidence", "Claimed for", "Decided by", "Source")
    return Table(f"Claims: {group.title}", columns, rows, frozenset(range(len(columns))), notes=tuple(notes))


def _made_for(claim: Mapping[str, Any]) -> str:
    model, protocol = (claim[name] for name in ("model", "protocol"))
    return f"{'no model named' if model == ANY else model}; {'no protocol named' if protocol == ANY else protocol}"


def _judge(group: Group, claim: Mapping[str, Any]) -> Verdict:
    own = [r for r in group.finished if r.method == claim["method"]]
    row = next((r for r in own if r.done[0].spec.hyperparameters.get("r") == claim.get("r")), own[0] if own else None)
    if claim["kind"] == "study":
        return _study(claim)
    if claim["kind"] == "published":
        verdict, evidence = _published(group, row, claim)
        return Verdict(claim, verdict, evidence, _keys(row))
    rivals = group.own(claim.get("rivals", ()))
    if row is None:
        return Verdict(claim, UNDECIDABLE, f"no finished record of {claim['method']}", ())
    if claim["kind"] != "share" and not rivals:
        return Verdict(claim, UNDECIDABLE, "no finished record of a rival", _keys(row))
    verdict, evidence = _JUDGES[claim["kind"]](group, row, claim, rivals)
    if absent := [m for m in claim.get("rivals", ()) if m not in {r.method for r in rivals}]:
        verdict = UNDECIDABLE if verdict == REPRODUCED else verdict  # one rival beaten is not every rival beaten
        evidence += f"; no finished record of {', '.join(absent)}"
    return Verdict(claim, verdict, evidence, _keys(row, *rivals))


def _difference(group: Group, row: Row, claim: Mapping[str, Any], rivals: Sequence[Row]) -> tuple[str, str]:
    """Better than every rival, in the first of the claim's measures that the records hold."""
    methods = [rival.method for rival in rivals]
    for name in claim["measures"]:
        judged = [j for j in judge_rows(group.rows, group.tasks, row, BY_NAME[name], methods) if j.row in rivals]
        if len(judged) == len(rivals):
            break
    else:
        return UNDECIDABLE, f"no {' or '.join(BY_NAME[n].label.lower() for n in claim['measures'])} on record"
    measure = judged[0].measure
    evidence = f"{measure.label.lower()}, {claim['method']} minus " + "; ".join(_turned(j) for j in judged)
    words = [j.word for j in judged]  # of the rival against the method
    if any(j.about_models for j in judged):
        return UNDECIDABLE, f"{evidence}; one seed: these models only"
    if BETTER in words:
        return NOT_REPRODUCED, evidence
    if all(word == WORSE for word in words):
        return REPRODUCED, evidence
    return (EQUIVALENT if all(word == EQUIVALENT for word in words) else UNDECIDABLE), evidence


def _turned(j: Judged) -> str:
    """Return the difference, method minus rival, with the interval of the question that is answered."""
    estimate, scale, form = j.paired.method or j.paired.models, j.measure.scale, j.measure.format
    text = f"{j.row.label} {-scale * j.paired.value:{form}}"
    if estimate is not None:
        low, high = estimate.interval()
        text += f" [{-scale * high:{form}}, {-scale * low:{form}}]"
    return f"{text} ({j.paired.seeds} seed{'s' if j.paired.seeds > 1 else ''})"


def _fewer(group: Group, row: Row, claim: Mapping[str, Any], rivals: Sequence[Row]) -> tuple[str, str]:
    """With fewer parameters and no worse: for every rival a row of the method that has both, seeds allowed for."""
    counts = {s.row: s.metrics[claim["metric"]] for s in group.whole.summaries}
    measure, margin = BY_NAME[claim["measures"][0]], margins()[claim["measures"][0]]
    candidates = [r for r in group.whole.finished if r.method == claim["method"]]
    met, evidence, one_seed = [], [], False
    for rival in rivals:
        texts = []
        for candidate in candidates:
            own, other = counts[candidate], counts[rival]
            if own is None or not other or own / other > claim["at_most"]:
                continue
            judged = judge_rows((candidate, rival), group.tasks, rival, measure)
            estimate = judged[0].paired.method if judged else None
            one_seed |= bool(judged) and estimate is None
            if estimate is None:
                continue
            low, high = estimate.interval(1 - 2 * stats.ALPHA)
            worst = low if measure.higher else -high
            share, shown = f"{own / other:.0%} of {rival.label}'s", f"{measure.scale * worst:+z.1f}"
            texts.append((worst > -margin, f"{candidate.label} with {share}: at worst {shown}"))
        met.append(any(good for good, _ in texts))
        evidence += [text for _, text in texts]
    text = f"{measure.label.lower()} ({measure.unit}), one-sided at 5%: {'; '.join(evidence) or 'no row with fewer'}"
    if one_seed:
        text += "; one seed: these models only"
    return REPRODUCED if all(met) else UNDECIDABLE, text


def _ratio(group: Group, row: Row, claim: Mapping[str, Any], rivals: Sequence[Row]) -> tuple[str, str]:
    by_row = {s.row: s.metrics[claim["metric"]] for s in group.summaries}
    label = metric(claim["metric"]).label
    verdict, evidence = _limits(claim, [(f"of {r.label}", by_row[row], by_row[r]) for r in rivals], label)
    beside = [r for r in group.own(claim.get("beside", ())) if by_row[row] is not None and by_row[r]]
    if beside:
        ratios = (f"{100 * (by_row[row] or 0) / (by_row[r] or 1):.1f}% of {r.label}" for r in beside)
        evidence += f"; beside it, in another library's layer: {', '.join(ratios)}"
    return verdict, evidence


def _share(group: Group, row: Row, claim: Mapping[str, Any], rivals: Sequence[Row]) -> tuple[str, str]:
    """Judge what a phase costs in training steps, and as a share of a training of the declared length."""
    own, steps = _summary_of(group, row).metrics, len(row.done[0].losses or ())
    part, whole = own[claim["metric"]], own[claim["of"]]
    if part is None or not whole or not steps:
        return UNDECIDABLE, f"{metric(claim['metric']).label.lower()} was not measured"
    equivalents = part / (whole / steps)
    verdict, evidence = _limits(claim, [(f"of {claim['steps']:,}", equivalents, claim["steps"])], "Training steps")
    return verdict, f"as much time as {equivalents:.1f} training steps; {evidence}"


def _limits(
    claim: Mapping[str, Any], parts: Sequence[tuple[str, float | None, float | None]], label: str
) -> tuple[str, str]:
    ratios = [(name, value / base) for name, value, base in parts if value is not None and base]
    if not ratios:
        return UNDECIDABLE, f"{label.lower()} was not measured"
    evidence = f"{label.lower()}: " + "; ".join(f"{100 * ratio:.1f}% {name}" for name, ratio in ratios)
    evidence += f" (limits {100 * claim['at_most']:g}% and {100 * claim['fails_from']:g}%)"
    if any(ratio >= claim["fails_from"] for _, ratio in ratios):
        return NOT_REPRODUCED, evidence
    whole = len(ratios) == len(parts) and all(ratio <= claim["at_most"] for _, ratio in ratios)
    return REPRODUCED if whole else UNDECIDABLE, evidence


def _published(group: Group, row: Row | None, claim: Mapping[str, Any]) -> tuple[str, str]:
    spec = group.records[0].spec
    model = spec.model_name.lower()
    reasons = [
        text
        for differs, text in (
            (model != claim["model"], f"model {model}, published {claim['model']}"),
            (spec.protocol != claim["protocol"], f"protocol {spec.protocol}, published {claim['protocol']}"),
            (bool(group.data), "own data" if spec.own_tasks else "embedded split"),
            (spec.evaluation_limit is not None, f"{spec.evaluation_limit} documents a task, published all"),
            (row is not None and row.done[0].spec.hyperparameters.get("r") != claim["r"], f"rank is not {claim['r']}"),
        )
        if differs
    ]
    if reasons:
        return NOT_COMPARABLE, "; ".join(reasons)
    if row is None:
        return UNDECIDABLE, f"no finished record of {claim['method']}"
    own = _summary_of(group, row)
    if own.macro is None:
        return UNDECIDABLE, "no macro mean"
    # Both answered the same documents, so that seeds and libraries are what the two may differ by.
    off, margin = 100 * own.macro - claim["macro"], 1.96 * math.sqrt(2 / len(row.done)) * SEED_DEVIATION
    evidence = f"{100 * own.macro:.1f} ± {margin:.1f} here, {claim['macro']:.1f} published"
    return REPRODUCED if abs(off) <= margin else NOT_REPRODUCED, evidence


def _study(claim: Mapping[str, Any]) -> Verdict:
    """Take the answer of a study, which judges its own records; these of the group say nothing to it."""
    found = load_answers().get(claim["study"])
    if found is None:
        evidence = f"no record of study {claim['study']}: python -m benchmarks.study {claim['study']}"
        return Verdict(claim, UNDECIDABLE, evidence, ())
    words = {YES: REPRODUCED, NO: NOT_REPRODUCED}
    return Verdict(claim, words.get(found.answer, UNDECIDABLE), f"study {claim['study']}: {found.sentence}", ())


def _summary_of(group: Group, row: Row) -> Summary:
    return next(s for s in group.summaries if s.row is row)


def _keys(*rows: Row | None) -> tuple[str, ...]:
    return tuple(record.key for row in rows if row is not None for record in row.done)


_Judge = Callable[[Group, Row, Mapping[str, Any], Sequence[Row]], tuple[str, str]]
_JUDGES: dict[str, _Judge] = {
    "difference": _difference,
    "fewer": _fewer,
    "ratio": _ratio,
    "share": _share,
}
_NUMBERS = ("at_most", "fails_from", "macro", "r", "steps")
_LISTS = ("rivals", "measures", "beside")
_ALWAYS = ("name", "statement", "source", "protocol", "model", "kind", "method", "decided_by")
_NEEDED = {
    "difference": {"rivals", "measures"},
    "fewer": {"rivals", "metric", "at_most", "measures"},
    "ratio": {"rivals", "metric", "at_most", "fails_from"},
    "share": {"metric", "of", "at_most", "fails_from", "steps"},
    "study": {"study"},
    "published": {"r", "macro"},
}
