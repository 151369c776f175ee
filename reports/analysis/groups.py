"""Which records may stand in one table, and how they become its rows.

A group is one suite, model, source, protocol, training size, evaluation limit and way of matching sizes. Inside it
everything that moves numbers without being the question (device, dtype, versions, commit, documents, batch sizes) has
to agree; otherwise the group is refused with the field's name, or split by it. What may differ makes the rows: the
method, its hyperparameters and its learning rate. Seeds of one row are averaged. Beside the rows, never among them,
stand ablations (another budget or probe than the method's own, where that was run too) and jobs that chose a
learning rate on held-out training documents.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from reports.figures.style import method_rank
from results.adapters import joined
from results.environment import fingerprint
from results.record import Record
from results.store import Store
from results.tuning import HELD_OUT

_TRAINING = ("task_shares", "data_seed", "epochs", "batch_size", "max_length", "weight_decay", "warmup_fraction")
_ASKED = ("evaluation_batch_size", "quantize", "malloc", "compiled", "revisions", "own_tasks")
_UNPAIRED = ("tasks", "documents", "metrics")  # without these in common there is nothing to compare
_DRAWN = ("documents", "training_data")
_TRAINED = (*_TRAINING, "training_data")  # means nothing for a record that trained nothing
# The settings of a method's own row, for methods that are run with others too.
USUAL: dict[str, dict[str, Any]] = {
    "lora-smoe": {"mean_experts": 4.0, "probe_documents": 8},
    "smoe-released": {"probe_documents": 8},
    "mola": {"shape": "inverted-triangle"},
}
ABLATED = ("lora-smoe", "smoe-released")  # of these the other settings are ablations; MoLA's shapes are contestants
_ROW = ("method", "hyperparameters", "learning_rate", "probe_documents", "adapters")


class MixedError(ValueError):
    """Records that may not stand in one table; the message names the field."""


@dataclass(frozen=True, eq=False)  # one object a row: hashable, so that summaries can be cached
class Row:
    """One contestant: a method with its hyperparameters, over seeds."""

    label: str
    method: str
    done: tuple[Record, ...]  # by seed
    failed: tuple[Record, ...]

    @property
    def seeds(self) -> list[int]:
        return [r.spec.seed for r in self.done]

    def outcomes(self, task: str, seeds: Iterable[int] | None = None) -> np.ndarray:
        """(documents,) of the task, averaged over `seeds` (default: every finished one)."""
        wanted = None if seeds is None else set(seeds)
        chosen = [r for r in self.done if wanted is None or r.spec.seed in wanted]
        return np.mean([(r.scores or {})[task].outcomes for r in chosen], axis=0)


@dataclass(frozen=True, eq=False)
class Group:
    """Records that may be compared, as rows."""

    name: str  # of its folder
    title: str
    tasks: tuple[str, ...]
    rows: tuple[Row, ...]  # by method; of one method its own row first
    ablations: tuple[Row, ...] = ()
    tuning: tuple[Record, ...] = ()  # jobs that chose a learning rate, scored on held-out training documents
    shared: dict[str, Any] = field(default_factory=dict)  # what all finished records agree on
    differing: dict[str, list[Any]] = field(default_factory=dict)  # what was allowed to differ

    @property
    def finished(self) -> list[Row]:
        return [row for row in self.rows if row.done]

    @cached_property
    def whole(self) -> Group:
        """The group with its ablations among the rows."""
        return replace(self, rows=(*self.rows, *self.ablations), ablations=())

    @cached_property
    def alike(self) -> Group:
        """The group with the same seeds in every finished row: those that all of them have, where there is one."""
        every = [set(row.seeds) for row in self.whole.finished]
        seeds = set.intersection(*every) if every else set()
        if not seeds:
            return self

        def narrowed(rows: Iterable[Row]) -> tuple[Row, ...]:
            return tuple(replace(row, done=tuple(r for r in row.done if r.spec.seed in seeds)) for row in rows)

        return replace(self, rows=narrowed(self.rows), ablations=narrowed(self.ablations))

    @property
    def records(self) -> list[Record]:
        return [*(r for row in self.whole.rows for r in (*row.done, *row.failed)), *self.tuning]

    def own(self, methods: Iterable[str]) -> list[Row]:
        """The finished row of each of `methods` that has one; of several rows of a method its own, or the first."""
        first = {row.method: row for row in reversed(self.finished)}
        return [first[method] for method in methods if method in first]

    @property
    def embedded(self) -> bool:
        return any(r.spec.source == "embedded" for r in self.records)


def load_records(folders: Sequence[Path], suite: str | None = None) -> list[Record]:
    """Records of all folders, each key once (the first folder that has it finished wins), sorted by key.

    The jobs of an adapter for each task are one record. Records without scores are left out: they have tables of their
    own (reports/analysis/cost_laws.py).
    """
    records: dict[str, Record] = {}
    for folder in folders:
        for record in Store(folder).all():
            if not record.spec.scored or (suite is not None and record.spec.suite != suite):
                continue
            if record.key not in records or records[record.key].status != "done":
                records[record.key] = record
    return joined(records[key] for key in sorted(records))


def make_groups(
    records: Sequence[Record], split_by: Sequence[str] = (), allow: Sequence[str] = (), auto_split: bool = False
) -> list[Group]:
    """Sort `records` into groups. Raises MixedError naming the first field that does not agree within one.

    split_by: fields that make groups of their own. allow: fields that may differ (they are named below the table).
    auto_split: instead of refusing, split by whatever disagrees, with a warning.
    """
    parts: dict[tuple, list[Record]] = {}
    for record in records:
        parts.setdefault(_identity(record, split_by), []).append(record)
    _share_untrained(parts, split_by)
    groups = []
    for identity, part in sorted(parts.items(), key=lambda item: item[0]):
        shared, differing = _agreement(part)
        refused = [name for name in differing if name not in allow or name in _UNPAIRED]
        if refused and auto_split:
            warnings.warn(f"{identity[0]}: {', '.join(refused)} differ between records: split", stacklevel=2)
            groups += make_groups(part, [*split_by, *refused], allow)
        elif refused:
            raise MixedError(_refusal(identity[0], refused[0], differing[refused[0]]))
        else:
            groups.append(_group(identity[0], part, shared, differing))
    return groups


def agreement_fields(record: Record) -> dict[str, Any]:
    """What has to be equal for two records to be compared, by the name used on the command line."""
    spec = record.spec
    fields = dict(fingerprint(record.environment, spec))
    fields["commit"] = record.environment.get("git_commit")
    fields["threads"] = record.environment.get("threads")
    fields["tasks"] = list(spec.tasks)
    fields.update({name: getattr(spec, name) for name in _ASKED})
    scores = record.scores or {}
    fields["documents"] = _hash([(task, scores[task].documents) for task in sorted(scores)])
    fields["metrics"] = {task: scores[task].metric for task in sorted(scores)}
    described = {task: entry for task, entry in record.data.items() if isinstance(entry, dict)}
    fields["task_versions"] = {task: entry.get("task_version") for task, entry in sorted(described.items())}
    if spec.epochs:
        fields.update({name: getattr(spec, name) for name in _TRAINING})
        fields["training_data"] = _hash([(task, entry.get("train_hash")) for task, entry in sorted(described.items())])
    if spec.split == HELD_OUT:  # other documents on purpose; among themselves they have to agree as well
        fields.update({f"held_out_{name}": fields.pop(name) for name in _DRAWN if name in fields})
    return fields


def _refusal(group: str, name: str, values: Sequence[Any]) -> str:
    found = ", ".join(sorted(_text(v) for v in values))
    way_out = f"Draw one table for each with --split-by {name}"
    if name not in _UNPAIRED:
        way_out += f", or state that it does not matter with --allow {name}"
    return f"{group}: records differ in {name} ({found}); such numbers are never put in one table. {way_out}"


def _agreement(records: Sequence[Record]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """(fields that agree over the finished records, fields that do not with their values)."""
    values: dict[str, dict[str, Any]] = {}
    for record in records:
        if record.status == "done":
            for name, value in agreement_fields(record).items():
                values.setdefault(name, {})[_text(value)] = value
    shared = {name: next(iter(found.values())) for name, found in values.items() if len(found) == 1}
    differing = {name: list(found.values()) for name, found in values.items() if len(found) > 1}
    return shared, differing


def _identity(record: Record, split_by: Sequence[str]) -> tuple[str, bool]:
    """(folder name, whether anything was trained). A slug that is safe as a file name."""
    spec = record.spec
    size = f"d{_or_all(spec.train_documents)}-e{_or_all(spec.evaluation_limit)}"
    parts = [spec.suite, spec.model.rstrip("/").split("/")[-1], spec.source, spec.protocol, size]
    if spec.match != "none":
        parts.append(f"match-{spec.match}")
    fields = {**spec.to_json(), **agreement_fields(record)}
    for name in split_by:
        if name not in fields and name not in _TRAINED:
            raise ValueError(f"cannot split by {name!r}; choose from {', '.join(sorted(fields))}")
        if name in _TRAINED and not spec.epochs:
            continue
        value = _text(fields.get(name))
        parts.append(f"{name}-{value if len(value) <= 24 else _hash(value)}")
    return "--".join(_slug(part) for part in parts), bool(spec.epochs)


def _share_untrained(parts: dict[tuple, list[Record]], split_by: Sequence[str]) -> None:
    """Put records that trained nothing into every group they are the floor of, whatever its training size."""

    def evaluation(record: Record) -> tuple:
        spec = record.spec
        extra = {**spec.to_json(), **agreement_fields(record)}
        split = tuple(_text(extra.get(name)) for name in split_by if name not in (*_TRAINED, "train_documents"))
        return spec.suite, spec.model, spec.source, spec.protocol, spec.evaluation_limit, spec.match, split

    for identity in [i for i in parts if not i[1]]:
        trained = {i: part for i, part in parts.items() if i[1]}
        homeless = []
        for record in parts[identity]:
            homes = [i for i, part in trained.items() if evaluation(part[0]) == evaluation(record)]
            for home in homes:
                parts[home].append(record)
            if not homes:
                homeless.append(record)
        del parts[identity]
        if homeless:
            parts[identity] = homeless


def _group(name: str, records: Sequence[Record], shared: dict[str, Any], differing: dict[str, list[Any]]) -> Group:
    rows: dict[str, list[Record]] = {}
    tuning = tuple(r for r in records if r.spec.split == HELD_OUT)
    for record in [r for r in records if r.spec.split != HELD_OUT]:
        rows.setdefault(_text([getattr(record.spec, f) for f in _ROW]), []).append(record)
    examples = {key: part[0] for key, part in rows.items()}
    with_own = {record.spec.method for record in examples.values() if not unusual(record)}
    apart = {k for k, r in examples.items() if unusual(r) and r.spec.method in with_own.intersection(ABLATED)}
    labels = _labels(examples) | _labels({key: r for key, r in examples.items() if key not in apart})
    ordered = sorted(rows, key=lambda k: (method_rank(examples[k].spec.method), bool(unusual(examples[k])), labels[k]))
    made = {
        key: Row(
            labels[key],
            examples[key].spec.method,
            tuple(sorted((r for r in rows[key] if r.status == "done"), key=lambda r: r.spec.seed)),
            tuple(sorted((r for r in rows[key] if r.status != "done"), key=lambda r: r.spec.seed)),
        )
        for key in ordered
    }
    for row in made.values():
        if len(set(row.seeds)) < len(row.done):
            keys = ", ".join(r.key for r in row.done)
            raise MixedError(f"{name}: {row.label} has one seed twice, with specs that differ elsewhere: {keys}")
    spec = next((r.spec for r in records if r.spec.epochs), records[0].spec)
    title = (
        f"{spec.suite}, {spec.model.rstrip('/').split('/')[-1]}, {spec.protocol} protocol, "
        f"{_or_all(spec.train_documents)} training documents, "
        f"{_or_all(spec.evaluation_limit)} evaluation documents a task"
    )
    if spec.match != "none":
        title += f", matched on {spec.match}"
    contestants, ablations = (tuple(row for k, row in made.items() if (k in apart) is aside) for aside in (False, True))
    return Group(name, title, spec.tasks, contestants, ablations, tuning, shared, differing)


def _labels(examples: dict[str, Record]) -> dict[str, str]:
    """The method's name, followed by what tells it from other rows of the method and from its usual settings."""
    labels = {}
    for key, record in examples.items():
        settings = _settings(record)
        others = [_settings(r) for r in examples.values() if r.spec.method == record.spec.method]
        telling = {n for n in set().union(*others) if len({_text(o.get(n)) for o in others}) > 1} | unusual(record)
        detail = ", ".join(f"{name}={_text(settings.get(name))}" for name in sorted(telling) if name in settings)
        labels[key] = f"{record.spec.method} ({detail})" if detail else record.spec.method
    return labels


def unusual(record: Record) -> set[str]:
    """The settings in which the record is not its method's own."""
    settings = _settings(record)
    return {n for n, value in USUAL.get(record.spec.method, {}).items() if settings.get(n) not in (value, None)}


def _settings(record: Record) -> dict[str, Any]:
    spec = record.spec
    own = ("learning_rate", "probe_documents", "adapters")
    return {**spec.hyperparameters, **{name: getattr(spec, name) for name in own}}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _or_all(value: int | None) -> str:
    return "all" if value is None else str(value)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-") or "none"
