"""The ledger: what was claimed, and what these records say about it.

Four verdicts and no fifth: reproduced, not reproduced, undecidable (the records cannot tell, or are missing) and not
comparable (another model, protocol, data split or setting). Claims and thresholds are data, in `reports/claims.yaml`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reports.analysis import stats
from reports.analysis.groups import Group, Row
from reports.analysis.summary import Summary
from results.metrics import metric
from results.table import Table

LEDGER = Path(__file__).resolve().parents[1] / "claims.yaml"
REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
UNDECIDABLE, NOT_COMPARABLE = "undecidable", "not comparable"
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
    claims = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("claims") or []
    for claim in claims:
        name, kind = claim.get("name"), claim.get("kind")
        if kind not in _JUDGES:
            raise ValueError(f"claim {name!r}: kind {kind!r} is none of {', '.join(sorted(_JUDGES))}")
        needed = {*_ALWAYS} | _NEEDED[kind]
        if missing := sorted(needed - set(claim)):
            raise ValueError(f"claim {name!r}: missing {', '.join(missing)}")
        for field in {"metric", "of"} & needed:
            metric(claim[field])
    return claims


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
    if group.embedded:
        notes.append("Data: embedded split, not comparable with published numbers.")
    columns = ("Claim", "Statement", "Verdict", "Evidence", "Claimed for", "Decided by", "Source")
    return Table(f"Claims: {group.title}", columns, rows, frozenset(range(len(columns))), notes=tuple(notes))


def _made_for(claim: Mapping[str, Any]) -> str:
    model, protocol = (claim[name] for name in ("model", "protocol"))
    return f"{'no model named' if model == ANY else model}; {'no protocol named' if protocol == ANY else protocol}"


def _judge(group: Group, claim: Mapping[str, Any]) -> Verdict:
    own = [r for r in group.finished if r.method == claim["method"]]
    row = next((r for r in own if r.done[0].spec.hyperparameters.get("r") == claim.get("r")), own[0] if own else None)
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


def _accuracy(group: Group, row: Row, claim: Mapping[str, Any], rivals: Sequence[Row]) -> tuple[str, str]:
    found = [c for c in group.compare(row) if c.row in rivals]
    adjusted = stats.holm({c.row.label: c.macro.p for c in found})
    better, worse, evidence = [], [], []
    for c in found:  # differences are rival minus method: turned round here
        sure = (p := adjusted[c.row.label]) is not None and p < stats.ALPHA
        better.append(sure and c.macro.value < 0)
        worse.append(sure and c.macro.value > 0)
        seeds = f"{len(c.seeds)} seed{'s' if len(c.seeds) > 1 else ''}" if c.seeds else "no seed in common"
        text = f"{c.row.label} {-100 * c.macro.value:+z.1f}"
        if c.macro.low is not None and c.macro.high is not None:
            text += f" [{-100 * c.macro.high:+z.1f}, {-100 * c.macro.low:+z.1f}]"
        evidence.append(f"{text} ({seeds})")
    verdict = NOT_REPRODUCED if any(worse) else REPRODUCED if all(better) else UNDECIDABLE
    return verdict, f"points above {'; '.join(evidence)}; 95% intervals over documents"


def _ratio(group: Group, row: Row, claim: Mapping[str, Any], rivals: Sequence[Row]) -> tuple[str, str]:
    by_row = {s.row: s.metrics[claim["metric"]] for s in group.summaries}
    return _limits(claim, [(f"of {r.label}", by_row[row], by_row[r]) for r in rivals], metric(claim["metric"]).label)


def _share(group: Group, row: Row, claim: Mapping[str, Any], rivals: Sequence[Row]) -> tuple[str, str]:
    own = _summary_of(group, row).metrics
    of = metric(claim["of"]).label.lower()
    part = f"of its {of}", own[claim["metric"]], own[claim["of"]]
    verdict, evidence = _limits(claim, [part], metric(claim["metric"]).label)
    documents = row.done[0].spec.train_documents
    if verdict == NOT_REPRODUCED and documents is not None and documents < claim["least_documents"]:
        return UNDECIDABLE, f"{evidence}; {documents:,} training documents are too few to refute it"
    return verdict, evidence


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
    model = spec.model.rstrip("/").split("/")[-1].lower()
    reasons = [
        text
        for differs, text in (
            (model != claim["model"], f"model {model}, published {claim['model']}"),
            (spec.protocol != claim["protocol"], f"protocol {spec.protocol}, published {claim['protocol']}"),
            (spec.source == "embedded", "embedded split"),
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
    if own.macro is None or own.macro_stderr is None:
        return UNDECIDABLE, "no standard error"
    off, margin = 100 * own.macro - claim["macro"], 196 * own.macro_stderr
    evidence = f"{100 * own.macro:.1f} ± {margin:.1f} here, {claim['macro']:.1f} published"
    return REPRODUCED if abs(off) <= margin else NOT_REPRODUCED, evidence


def _summary_of(group: Group, row: Row) -> Summary:
    return next(s for s in group.summaries if s.row is row)


def _keys(*rows: Row | None) -> tuple[str, ...]:
    return tuple(record.key for row in rows if row is not None for record in row.done)


_Judge = Callable[[Group, Row, Mapping[str, Any], Sequence[Row]], tuple[str, str]]
_JUDGES: dict[str, _Judge] = {
    "accuracy": _accuracy,
    "ratio": _ratio,
    "share": _share,
    "published": lambda group, row, claim, rivals: _published(group, row, claim),
}
_ALWAYS = ("name", "statement", "source", "protocol", "model", "kind", "method", "decided_by")
_NEEDED = {
    "accuracy": {"rivals"},
    "ratio": {"rivals", "metric", "at_most", "fails_from"},
    "share": {"metric", "of", "at_most", "fails_from", "least_documents"},
    "published": {"r", "macro"},
}
