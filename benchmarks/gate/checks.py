"""The regression gate's rules: the records of two runs -> findings, one for each row and check.

Records are brought into rows by pairs.py. What must be equal is in exact.py, what was answered in answers.py, what is
judged relative to the reference method (accuracy, time) in relative.py. The training loss is held as well: the same
code on the same machine gives the same losses.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.gate.answers import check_answers, check_loglikelihood
from benchmarks.gate.exact import exact_checks
from benchmarks.gate.findings import Finding, Limits, judge, percent
from benchmarks.gate.pairs import Row, done, is_repeatable, match, medians, require_one_fingerprint
from benchmarks.gate.relative import TIMED, check_accuracy, check_time, reference_row, require_reference
from results import Record
from results.metrics import phase_peak_bytes
from results.record import PHASES


def compare(base: Sequence[Record], new: Sequence[Record], limits: Limits) -> list[Finding]:
    """Return every finding, row by row. Raises IncomparableError when the fingerprints of the two sides differ."""
    rows = match(base, new)
    require_one_fingerprint(base, new)
    require_reference(rows, limits)
    findings = []
    for label, row in rows.items():
        findings.append(_job(label, row, limits))
        if row.pairs:
            reference = reference_row(row, rows, limits)
            results = [
                *exact_checks(row),
                *(_memory(row, phase, limits) for phase in PHASES),
                check_answers(row, limits),
                check_accuracy(row, reference, limits),
                check_loglikelihood(row, reference, limits),
                _loss(row, limits),
                *(check_time(row, reference, phase, limits) for phase in TIMED),
            ]
            findings += [Finding(row=label, **f) for f in results if f is not None]
    return findings


def _job(label: str, row: Row, limits: Limits) -> Finding:
    """Check whether every job that was finished in BASE is finished in NEW."""
    lost = [seed for seed in done(row.base) if seed not in done(row.new)]
    failed = [f"seed {s} failed: {r.error}" for s, r in sorted(row.new.items()) if r.status != "done"]
    fields = dict(row=label, check="job", base=_counted(row.base), new=_counted(row.new), detail="; ".join(failed))
    if not row.base:
        return Finding(status="warning" if failed else "new", **{**fields, "detail": fields["detail"] or "only in NEW"})
    if lost:
        missing = [seed for seed in lost if seed not in row.new]
        if missing:
            why = f"seeds {', '.join(map(str, missing))} are missing in NEW; with another default of a hyperparameter"
            fields["detail"] = "; ".join([*failed, f"{why} they stand under a new row"])
        return Finding(status="warning" if limits.allow_missing else "regression", **fields)
    if failed:
        return Finding(status="warning", **fields)
    return Finding(status="improvement" if len(done(row.new)) > len(done(row.base)) else "ok", **fields)


def _memory(row: Row, phase: str, limits: Limits) -> dict[str, str] | None:
    old, now = medians(row, lambda record: phase_peak_bytes(record, phase))
    if not old:
        return None  # the platform does not tell
    if now is None:
        return dict(check=f"memory {phase}", status="regression", detail="no longer measured")
    change = now / old - 1
    status = judge(change, limits.memory, limits.memory_warning)
    return dict(
        check=f"memory {phase}", status=status, base=f"{old / 1e6:,.1f} MB", new=f"{now / 1e6:,.1f} MB",
        change=percent(change),
    )  # fmt: skip


def _loss(row: Row, limits: Limits) -> dict[str, str] | None:
    pairs = [(b.losses, n.losses or ()) for b, n in row.pairs if b.losses]
    if not pairs:
        return None  # nothing was trained
    if not all(new for _, new in pairs):
        return dict(check="training loss", status="regression", detail="nothing was trained")
    old, now = (statistics.fmean(statistics.fmean(p[i][len(p[i]) // 2 :]) for p in pairs) for i in (0, 1))
    change = now / old - 1
    repeatable = is_repeatable(row)
    status, detail = judge(change, limits.loss if repeatable else 5 * limits.loss), ""
    if status == "ok" and repeatable and any(b != n for b, n in pairs):
        status, detail = "warning", "not equal bit for bit: the computation has changed"
    return dict(
        check="training loss", status=status, base=f"{old:.5f}", new=f"{now:.5f}", change=percent(change),
        detail=detail,
    )  # fmt: skip


def _counted(records: Mapping[int, Record]) -> str:
    finished = len(done(records))
    failed = f", {len(records) - finished} failed" if len(records) > finished else ""
    return f"{finished} done{failed}" if records else "none"
