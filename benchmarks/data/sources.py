"""Where documents come from: each source gives a task a training and an evaluation set in the schema its task reads.

"embedded" is what lies on this machine: the embedded data sets (benchmarks/data/embedded.py) and the files of one's own
tasks. "hub" is the full public splits of any task, pinned to commits (benchmarks/data/hub.py). What holds for both: no
training document has a copy among the evaluation documents of any task that is trained with it, nor a source or a
near-duplicate among those of its own task, and the partition is the same on every machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from benchmarks.data import hub
from benchmarks.data.documents import (
    Doc,
    content,
    fingerprint,
    folder_hash,
    normalised,
    same_text,
    stratified,
    text_hash,
)
from benchmarks.data.embedded import EMBEDDED, read
from benchmarks.data.tasks import OWN, folders, own_tasks, settings
from results.names import unknown
from results.tuning import HELD_OUT

SOURCES = ("embedded", "hub")
SPLITS = ("evaluation", HELD_OUT)  # what a job is scored on
HELD_OUT_ONE_IN = 5  # training groups: one in so many is held out to choose a learning rate on
MOST_LABELS = 26  # a column with more values is no label


class Split(datasets.DatasetDict):
    """Training and evaluation documents of a task."""

    dropped = 0  # training documents that the leak check took out


def splits(
    source: str, tasks: tuple[str, ...], split: str = "evaluation", revisions: Mapping[str, str] | None = None
) -> dict[str, Split]:
    """Return training and evaluation documents ("train", "evaluate") of each task.

    No training document shares its normalised text with any evaluation document of any task here, nor its group (see
    embedded.yaml) with one of its own task; of a task that is not embedded both are the whole document. Training
    documents are in the order of their fingerprints, evaluation documents in one whose every prefix has the shares of
    the right answers (`stratified`). split "held-out" cuts the training documents once more, by the same groups: a
    fifth of them stands under "evaluate", and the evaluation documents are not used at all. revisions: what
    `revisions` gave for a source that has them. Raises ValueError for an unknown source or split or a task the source
    does not hold, AssetError for a missing or altered package.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    check(source, tasks)
    documents = {task: _read(source, task, revisions or {}) for task in tasks}
    seen = {_text(t, d) for t, (_, evaluate, _) in documents.items() for d in evaluate}
    result: dict[str, Split] = {}
    for task, (train, evaluate, features) in documents.items():
        groups = _groups(task, [*train, *evaluate])
        evaluated = set(groups[len(train) :])
        clean = [
            (d, g) for d, g in zip(train, groups, strict=False) if g not in evaluated and _text(task, d) not in seen
        ]
        dropped = len(train) - len(clean)
        if split == HELD_OUT:
            evaluate = [d for d, group in clean if not _is_kept(group)]
            clean = [(d, group) for d, group in clean if _is_kept(group)]
        for name, docs in (("training", clean), ("evaluation", evaluate)):
            if not docs:
                raise ValueError(f"task {task}: no {name} document is left after the leak check")
        result[task] = Split(
            train=_data_set(task, sorted((d for d, _ in clean), key=fingerprint), features),
            evaluate=_data_set(task, stratified(evaluate, _strata(task, evaluate)), features),
        )
        result[task].dropped = dropped
    return result


def leaks(task: str, train: Sequence[Doc], evaluate: Sequence[Doc]) -> dict[str, int]:
    """Count evaluation documents that have something in common with a training document, by what it is.

    "text" for every task; "source" and "near_duplicates" for tasks whose layout names them.
    """
    docs = [*train, *evaluate]
    shared: dict[str, Sequence[Any]] = {"text": [_text(task, d) for d in docs]}
    shared |= EMBEDDED[task].links(docs) if task in EMBEDDED else {}
    return {name: _in_both(values, len(train)) for name, values in shared.items()}


def check(source: str, tasks: tuple[str, ...]) -> None:
    """Raise ValueError for an unknown source, or for a task that it does not hold."""
    if source not in SOURCES:
        raise unknown("source", source, SOURCES)
    for task in tasks:
        if source == "embedded" and task not in EMBEDDED:
            if task not in folders():
                raise unknown("task of the embedded source", task, EMBEDDED)
            if not hub.is_local(settings(task)):
                raise ValueError(
                    f"the embedded source does not hold {task}: use --source hub, or tasks that it holds: "
                    f"{', '.join(EMBEDDED)}"
                )


def revisions(source: str, tasks: tuple[str, ...], pinned: Mapping[str, str]) -> dict[str, str] | None:
    """Which state of each data set the source will read, by the data set's path; None for the embedded source.

    Raises ValueError where it cannot be found out, or where `pinned` names a data set that is not read.
    """
    if source == "hub":
        return hub.revisions([settings(task) for task in tasks], pinned)
    if pinned:
        raise ValueError(f"revision of {', '.join(pinned)}: the embedded source has no revisions; use --source hub")
    return None


def own_files(tasks: tuple[str, ...]) -> str | None:
    """Hash the folders of the user's own tasks (`SMOE_TASKS`); None where none of these is the user's own."""
    if set(tasks) <= EMBEDDED.keys() or not os.environ.get(OWN):
        return None
    chosen = [Path(folder) for folder in os.environ[OWN].split(os.pathsep) if folder]
    return "-".join(map(folder_hash, chosen)) if set(tasks) & own_tasks().keys() else None


def _text(task: str, doc: Doc) -> str:
    return normalised(EMBEDDED[task].text(doc)) if task in EMBEDDED else same_text(content(doc))


def _data_set(task: str, docs: Sequence[Doc], features: datasets.Features | None) -> datasets.Dataset:
    """Make a data set of documents with the features of the one that they are of; images and sounds stay bytes."""
    if features is None:
        return datasets.Dataset.from_list(list(docs))
    media = {n: f for n, f in features.items() if isinstance(f, datasets.Image | datasets.Audio)}
    stored = datasets.Features({**features, **{n: type(f)(decode=False) for n, f in media.items()}})
    data = datasets.Dataset.from_list(list(docs), features=stored)
    for name, feature in media.items():
        data = data.cast_column(name, feature)
    return data


def _groups(task: str, docs: Sequence[Doc]) -> list[str]:
    return EMBEDDED[task].groups(docs) if task in EMBEDDED else [_text(task, doc) for doc in docs]


def _strata(task: str, docs: Sequence[Doc]) -> tuple[str, ...]:
    """Columns that the evaluation documents are stratified by: the layout's, or the one that is the task's target."""
    if task in EMBEDDED:
        return EMBEDDED[task].strata
    column = str(settings(task).get("doc_to_target")).strip("{} ")
    is_label = all(column in doc for doc in docs) and len({str(doc[column]) for doc in docs}) <= MOST_LABELS
    return (column,) if is_label else ()


def _in_both(values: Sequence[Any], split_at: int) -> int:
    """Count the values from `split_at` on that also stand before it."""
    before = set(values[:split_at])
    return sum(value in before for value in values[split_at:])


def _is_kept(group: str) -> bool:
    return bool(int(text_hash(f"{HELD_OUT}/{group}")[:8], 16) % HELD_OUT_ONE_IN)


def _read(
    source: str, task: str, revisions: Mapping[str, str]
) -> tuple[list[Doc], list[Doc], datasets.Features | None]:
    """(training, evaluation) documents of one task, before the leak check, and their features where they have one."""
    if source == "embedded" and task in EMBEDDED:
        return *read(EMBEDDED[task]), None
    train, test, features = hub.read(said := settings(task), revisions)
    if task in EMBEDDED and (subjects := EMBEDDED[task].subjects):
        train, test = ([d for d in docs if d["subject"] in subjects] for docs in (train, test))
    _refuse_hidden(said, train, test)
    return train, test, features


def _refuse_hidden(said: Mapping[str, Any], train: Sequence[Doc], test: Sequence[Doc]) -> None:
    """Raise ValueError for a column that prompts or answers are made of and no evaluation document has."""
    written = " ".join(str(value) for name, value in said.items() if name.startswith("doc_to_"))
    names = {name for doc in (*train[:1], *test[:1]) for name in doc}
    for name in sorted(names & set(re.findall(r"\w+", written))):
        if test and train and all(d.get(name) is None for d in test) and any(d.get(name) is not None for d in train):
            raise ValueError(
                f"task {said['task']}: no evaluation document has the column {name!r}, which its file reads; "
                "name a split that has it (test_split, validation_split)"
            )
