"""Which records may stand in one table, and how they become its rows.

A group is one suite in one version, model, source, protocol, training size, evaluation limit and way of matching sizes.
Inside it everything that moves numbers without being the question (device, dtype, versions, commit, documents, batch
sizes) has to agree; otherwise the group is refused with the field's name, or split by it. What may differ makes the
rows: the method, its hyperparameters and its learning rate. Seeds of one row are averaged; which documents they trained
on may differ between seeds. Beside the rows, never among them, stand ablations (another budget or probe than the
method's own, where that was run too) and jobs that chose a learning rate on held-out training documents.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from reports import roster
from reports.analysis.rows import Row, finished, first_of
from reports.analysis.summary import Comparison, Summary, compare, summarise
from reports.analysis.verdicts import Judged, judge_all, outdone
from reports.analysis.wording import data_source
from results.adapters import joined
from results.comparable import (
    BY_SEED,
    TRAINED,
    UNPAIRED,
    agreement,
    agreement_fields,
    as_text,
    row_key,
    row_labels,
    row_settings,
    short_hash,
)
from results.record import Record
from results.store import Store
from results.tuning import HELD_OUT, grid_id

_TRAINED = (*TRAINED, *BY_SEED)  # means nothing for a record that trained nothing
_SOME = ("trained_blocks",)  # that some methods have and others have not


class MixedError(ValueError):
    """Records that may not stand in one table; the message names the field."""


@dataclass(frozen=True, eq=False)
class Group:
    """Records that may be compared, as rows; what is computed of them is computed once."""

    name: str  # of its folder
    title: str
    tasks: tuple[str, ...]
    rows: tuple[Row, ...]  # by method; of one method its own row first
    ablations: tuple[Row, ...] = ()
    tuning: tuple[Record, ...] = ()  # jobs that chose a learning rate, scored on held-out training documents
    shared: dict[str, Any] = field(default_factory=dict)  # what all finished records agree on
    differing: dict[str, list[Any]] = field(default_factory=dict)  # what was allowed to differ
    _compared: dict[tuple[Row, tuple[str, ...] | None], list[Comparison]] = field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def finished(self) -> list[Row]:
        return finished(self.rows)

    @cached_property
    def whole(self) -> Group:
        """The group with its ablations among the rows."""
        return replace(self, rows=(*self.rows, *self.ablations), ablations=())

    @cached_property
    def on_common_seeds(self) -> Group:
        """The group with the same seeds in every finished row: those that all of them have, where there is one."""
        seeds = set.intersection(*(set(row.seeds) for row in self.whole.finished)) if self.whole.finished else set()
        if not seeds:
            return self

        def narrowed(rows: Iterable[Row]) -> tuple[Row, ...]:
            return tuple(replace(row, done=tuple(r for r in row.done if r.spec.seed in seeds)) for row in rows)

        return replace(self, rows=narrowed(self.rows), ablations=narrowed(self.ablations))

    @cached_property
    def summaries(self) -> list[Summary]:
        """One summary a row, in the group's order; failed rows have no numbers but a note."""
        return summarise(self.rows, self.tasks)

    @property
    def references(self) -> list[Row]:
        """The finished rows that others are compared with."""
        return self.own(roster.names("reference"))

    @cached_property
    def contrasts(self) -> list[list[Comparison]]:
        """The comparisons that a report shows: all rows against each reference, the controls against their method."""
        shown = [self.compare(reference) for reference in self.references]
        for method, controls in roster.controls().items():
            shown += [self.compare(row, controls) for row in self.own([method])]
        return [comparisons for comparisons in shown if comparisons]

    @cached_property
    def judged(self) -> list[Mapping[str, list[Judged]]]:
        """The verdicts that a report shows, by measure: all rows against the first reference, controls their method."""
        shown = [judge_all(self.rows, self.tasks, reference) for reference in self.references[:1]]
        for method, controls in roster.controls().items():
            shown += [judge_all(self.rows, self.tasks, row, controls) for row in self.own([method])]
        return [judged for judged in shown if judged]

    @cached_property
    def outdone(self) -> Mapping[str, set[str]]:
        """{row: the rows that the verdicts call less accurate than it}, by label."""
        return outdone(self.rows, self.tasks)

    def compare(self, reference: Row, methods: tuple[str, ...] | None = None) -> list[Comparison]:
        """Every other finished row, or those of `methods`, against a row of the group."""
        if (reference, methods) not in self._compared:
            self._compared[reference, methods] = compare(self.rows, self.tasks, reference, methods)
        return self._compared[reference, methods]

    @property
    def records(self) -> list[Record]:
        return [*(r for row in self.whole.rows for r in (*row.done, *row.failed)), *self.tuning]

    def own(self, methods: Iterable[str]) -> list[Row]:
        """Return the finished row of each of `methods` that has one; of several its own, or the first."""
        return first_of(self.rows, methods)

    @property
    def data(self) -> str:
        return data_source(self.records)


def load_records(folders: Sequence[Path], suite: str | None = None) -> list[Record]:
    """Return records of all folders, each key once (the first folder that has it finished wins), sorted by key.

    The jobs of an adapter for each task are one record. Records without scores are left out: they have own tables.
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
    _share_grids(parts)
    _share_untrained(parts, split_by)
    groups = []
    for identity, part in sorted(parts.items(), key=lambda item: item[0]):
        shared, differing = agreement(part)
        refused = [name for name in differing if name not in allow or name in UNPAIRED]
        if refused and auto_split:
            warnings.warn(f"{identity[0]}: {', '.join(refused)} differ between records: split", stacklevel=2)
            groups += make_groups(part, [*split_by, *refused], allow)
        elif refused:
            raise MixedError(_refusal(identity[0], refused[0], differing[refused[0]]))
        else:
            groups.append(_group(identity[0], part, shared, differing))
    return groups


def _refusal(group: str, name: str, values: Sequence[Any]) -> str:
    found = ", ".join(sorted(as_text(v) for v in values))
    way_out = f"Draw one table for each with --split-by {name}"
    if name not in UNPAIRED:
        way_out += f", or state that it does not matter with --allow {name}"
    return f"{group}: records differ in {name} ({found}); such numbers are never put in one table. {way_out}"


def _identity(record: Record, split_by: Sequence[str]) -> tuple[str, bool]:
    """(folder name, whether anything was trained). A slug that is safe as a file name."""
    spec = record.spec
    size = f"d{_or_all(spec.train_documents)}-e{_or_all(spec.evaluation_limit)}"
    model = spec.model_name if spec.model_content is None else f"{spec.model_name}-{spec.model_content[:8]}"
    parts = [spec.suite, model, "own" if spec.own_tasks else spec.source, spec.protocol, size]
    if spec.match != "none":
        parts.append(f"match-{spec.match}")
    if spec.suite_version is not None:  # records of schema 1 have none
        parts.append(f"v{spec.suite_version}")
    fields = {**spec.to_json(), **agreement_fields(record)}
    for name in split_by:
        if name not in fields and name not in (*_TRAINED, *_SOME):
            raise ValueError(f"cannot split by {name!r}; choose from {', '.join(sorted(fields))}")
        if name in _TRAINED and not spec.epochs:
            continue
        value = as_text(fields.get(name))
        parts.append(f"{name}-{value if len(value) <= 24 else short_hash(value)}")
    return "--".join(_slug(part) for part in parts), bool(spec.epochs)


def _share_grids(parts: dict[tuple, list[Record]]) -> None:
    """Put the jobs of a grid, which train on a part of the documents, into the groups whose rates they chose."""
    for identity in list(parts):
        jobs = [r for r in parts[identity] if r.spec.split == HELD_OUT]
        for other in (i for i in list(parts) if i != identity):
            decided = {grid_id(r.spec) for r in parts[other] if r.spec.split != HELD_OUT}
            parts[other] += (moved := [r for r in jobs if grid_id(r.spec) in decided])
            parts[identity] = [r for r in parts[identity] if r not in moved]
        if not parts[identity]:
            del parts[identity]


def _share_untrained(parts: dict[tuple, list[Record]], split_by: Sequence[str]) -> None:
    """Put records that trained nothing into every group they are the floor of, whatever its training size."""

    def evaluation(record: Record) -> tuple:
        spec = record.spec
        extra = {**spec.to_json(), **agreement_fields(record)}
        split = tuple(as_text(extra.get(name)) for name in split_by if name not in (*_TRAINED, "train_documents"))
        suite = spec.suite, spec.suite_version
        return suite, spec.model_identity, spec.source, spec.protocol, spec.evaluation_limit, spec.match, split

    for identity in [i for i in parts if not i[1]]:
        trained = {i: part for i, part in parts.items() if i[1]}
        unassigned = []
        for record in parts[identity]:
            homes = [i for i, part in trained.items() if evaluation(part[0]) == evaluation(record)]
            for home in homes:
                parts[home].append(record)
            if not homes:
                unassigned.append(record)
        del parts[identity]
        if unassigned:
            parts[identity] = unassigned


def _group(name: str, records: Sequence[Record], shared: dict[str, Any], differing: dict[str, list[Any]]) -> Group:
    rows: dict[str, list[Record]] = {}
    tuning = tuple(r for r in records if r.spec.split == HELD_OUT)
    for record in [r for r in records if r.spec.split != HELD_OUT]:
        rows.setdefault(row_key(record.spec), []).append(record)
    examples = {key: part[0] for key, part in rows.items()}
    changed = {key: non_default_settings(record) for key, record in examples.items()}
    with_own = {record.spec.method for key, record in examples.items() if not changed[key]}
    ablated = {method for method in with_own if roster.entry(method).ablated}
    apart = {key for key, record in examples.items() if changed[key] and record.spec.method in ablated}
    labels = _labels(examples) | _labels({key: r for key, r in examples.items() if key not in apart})
    ordered = sorted(rows, key=lambda k: (roster.rank(examples[k].spec.method), bool(changed[k]), labels[k]))
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
    suite = spec.suite if spec.suite_version is None else f"{spec.suite} version {spec.suite_version}"
    title = (
        f"{suite}, {spec.model_name}, {spec.protocol} protocol, "
        f"{_or_all(spec.train_documents)} training documents, "
        f"{_or_all(spec.evaluation_limit)} evaluation documents a task"
    )
    if spec.match != "none":
        title += f", matched on {spec.match}"
    contestants, ablations = (tuple(row for k, row in made.items() if (k in apart) is aside) for aside in (False, True))
    return Group(name, title, spec.tasks, contestants, ablations, tuning, shared, differing)


def _labels(examples: dict[str, Record]) -> dict[str, str]:
    """Return the method's name, followed by what tells it from other rows and from its own settings."""
    specs = [record.spec for record in examples.values()]
    labels = row_labels(specs, always=lambda spec: roster.non_default_settings(spec.method, row_settings(spec)))
    return dict(zip(examples, labels, strict=True))


def non_default_settings(record: Record) -> set[str]:
    """Return the settings in which the record is not its method's own."""
    return roster.non_default_settings(record.spec.method, row_settings(record.spec))


def _or_all(value: int | None) -> str:
    return "all" if value is None else str(value)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-") or "none"
