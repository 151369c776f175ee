"""The page that a GPU pass leaves: what each step came to, in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.speed.ratios import from_json, markdown
from results import Record
from results.metrics import macro_accuracy
from results.store import Store
from results.table import Table
from results.table import markdown as table_markdown


def summary(card: str, outcomes: Sequence[tuple[Any, dict[str, Any] | None]], work: Path) -> str:
    """Write the page. outcomes: each step of benchmarks/offline/gpu_pass.py with what was recorded of it."""
    status = _table(
        ("step", "status", "minutes", "expected", ""),
        (
            (
                step.name,
                done["status"] if done else "not run",
                f"{done['seconds'] / 60:.1f}" if done else "-",
                f"{step.expected:g}",
                step.what,
            )
            for step, done in outcomes
        ),
    )
    results = [body for _, done in outcomes for body in ((done or {}).get("results") or {}).values()]
    parts = [f"# GPU pass\n\n{card}\n\n{status}"]
    for _, done in outcomes:
        for command in (done or {}).get("commands", ()):
            if command["status"] != "done":
                said = "\n".join(command["said"][-8:]).replace("```", "'''")
                parts.append(
                    f"`{command['command']}`: {command['status']}, exit {command['exit']}\n\n```\n{said}\n```\n"
                )
    ratios = [row for body in results for part in ("ratios", "compiled") for row in body.get(part, ())]
    if ratios:
        parts.append(f"## Ratios, side by side\n\n{markdown([from_json(row) for row in ratios])}")
    if entries := [entry for body in results for entry in body.get("entries", ())]:
        parts.append(f"## Cost at published shapes, random weights\n\n{_shapes(entries)}")
    if records := [r for r in Store(work / "records").all() if r.status == "done"]:
        parts.append(f"## Commonsense\n\n{_records(records)}")
    return "\n".join(parts)


def _shapes(entries: Sequence[dict[str, Any]]) -> str:
    """Return a row for each model, method and batch size. Peaks: given out by the allocator / reserved by it."""
    rows = []
    for entry in entries:
        start = (entry["model"], entry["method"], _millions(entry.get("trainable_params")))
        allocate = _cost(entry.get("allocate"))
        if entry["error"]:
            rows.append((*start, *allocate, "", entry["error"], ""))
        for size, cost in entry.get("steps", {}).items():
            _, peak = _cost(cost)
            rows.append((*start, *allocate, size, cost.get("error") or f"{1000 * cost['wall_seconds']:.1f}", peak))
    head = ("model", "method", "trainable M", "allocate s", "peak GB", "batch", "step ms", "peak GB")
    return _table(head, rows)


def _records(records: Sequence[Record]) -> str:
    """Return a row for each method and size of data: means over its seeds; the largest of the peaks."""
    rows = []
    for method, documents in dict.fromkeys((r.spec.method, r.spec.train_documents) for r in records):
        repeats = [r for r in records if (r.spec.method, r.spec.train_documents) == (method, documents)]
        scores = [100 * score for r in repeats if (score := macro_accuracy(r)) is not None]
        spread = f" ± {statistics.stdev(scores):.2f}" if len(scores) > 1 else ""
        phases = [
            statistics.fmean(r.costs[phase].wall_seconds for r in repeats)
            for phase in ("allocate", "train", "evaluate")
        ]
        peak = max((_peak(asdict(r.costs["train"])) for r in repeats), key=lambda pair: pair[0] or 0)
        trained = repeats[0].parameters.trainable if repeats[0].parameters else None
        rows.append(
            (
                method,
                "all" if documents is None else str(documents),
                str(len(repeats)),
                f"{statistics.fmean(scores):.2f}{spread}",
                _millions(trained),
                *(f"{seconds:.1f}" for seconds in phases),
                _gigabytes(peak),
            )
        )
    head = (
        "method",
        "documents",
        "seeds",
        "macro accuracy %",
        "trainable M",
        "allocate s",
        "train s",
        "evaluate s",
        "train peak GB",
    )
    return _table(head, rows)


def _cost(cost: dict[str, Any] | None) -> tuple[str, str]:
    if not cost or "wall_seconds" not in cost:
        return "-", "-"
    return f"{cost['wall_seconds']:.2f}", _gigabytes(_peak(cost))


def _peak(cost: dict[str, Any]) -> tuple[int | None, int | None]:
    """(given out, reserved) on a GPU; (resident, None) on a CPU."""
    if cost["peak_allocated_bytes"] is None:
        return cost["peak_resident_bytes"], None
    return cost["peak_allocated_bytes"], cost["peak_reserved_bytes"]


def _gigabytes(pair: tuple[int | None, int | None]) -> str:
    return " / ".join(f"{n / 1e9:.2f}" for n in pair if n is not None) or "-"


def _millions(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.2f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return table_markdown(Table("", tuple(head), tuple(map(tuple, rows)), frozenset(range(len(head)))))
