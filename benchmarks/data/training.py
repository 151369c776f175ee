"""The documents of a job that has scores: training examples, and lm-eval's tasks over the evaluation documents.

What is counted, drawn and cut are the documents that a task's own processing (`process_docs`) leaves.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import datasets

from benchmarks.data import examples, prepared, sources, tasks
from benchmarks.data.documents import fingerprint, text_hash
from benchmarks.data.embedded import EMBEDDED
from results import RunSpec


def training_data(
    spec: RunSpec, tokenizer: Any, description: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, list[examples.Example]]]:
    """Return lm-eval's tasks over the evaluation documents, and the training examples of each task.

    Counts and hashes of both go into `description`, by task. Raises ValueError where the files of one's own tasks are
    not those that the run was planned with, and for a document or an answer that cannot be trained on, by task.
    """
    if sources.own_files(spec.tasks) != spec.own_tasks:
        raise ValueError(f"the files of one's own tasks changed after the run was planned, or {tasks.OWN} is not set")
    if (found := prepared.find(spec)) is not None:
        description.update(found.description)
        return tasks.from_documents(found.documents, spec.protocol), found.examples
    objects, encoded = _made(spec, tokenizer, description)
    documents = {name: list(task.eval_docs) for name, task in objects.items()}
    prepared.keep(spec, prepared.Prepared(encoded, documents, dict(description)))
    return objects, encoded


def _made(
    spec: RunSpec, tokenizer: Any, description: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, list[examples.Example]]]:
    """Read, cut, draw and tokenise; as `training_data`."""
    read = _splits(spec.source, spec.tasks, spec.split, json.dumps(spec.revisions), spec.own_tasks)
    splits: dict[str, datasets.DatasetDict] = dict(read)
    shared = {name: sources.leaks(name, list(splits[name]["train"]), list(splits[name]["evaluate"]))
              for name in spec.trained_tasks}  # fmt: skip
    for name in EMBEDDED.keys() & splits.keys():  # their processing keeps every document, and takes long
        splits[name] = datasets.DatasetDict(
            train=splits[name]["train"], evaluate=_first(splits[name]["evaluate"], spec.evaluation_limit)
        )
    objects = tasks.task_objects(splits, spec.protocol)
    for task in objects.values():
        tasks.fix_documents(task, spec.evaluation_limit)
    counts = examples.shares(
        {n: len(tasks.training_docs(t)) for n, t in objects.items()}, spec.train_documents, spec.task_shares
    )
    own = tasks.own_tasks()
    encoded: dict[str, list[examples.Example]] = {}
    for name in spec.trained_tasks:
        task = objects[name]
        docs = examples.sample_documents(tasks.training_docs(task), counts[name], spec.data_seed, name)
        written = tasks.is_written(task)
        if written and tokenizer.eos_token is None:
            raise ValueError(f"task {name}: the tokenizer has no end token (eos_token) to close a written answer with")
        pairs = tasks.training_pairs(task, docs, end=tokenizer.eos_token)
        encoded[name] = [examples.encode(tokenizer, name, c, a, spec.max_length, written) for c, a in pairs]
        evaluated = list(task.eval_docs)
        description[name] = {
            "train_documents": len(docs),
            "train_hash": text_hash("".join(c + a for c, a in pairs))[:12],
            "train_tokens": sum(len(e.ids) for e in encoded[name]),
            "truncated": sum(e.truncated for e in encoded[name]),
            "dropped": read[name].dropped,  # training documents that the leak check took out, of all
            "shared_with_training": shared[name],  # evaluation documents, of all before the limit
            "evaluation_documents": len(evaluated),
            "evaluation_hash": text_hash(
                "".join(map(fingerprint, splits[name]["evaluate"] if name in EMBEDDED else evaluated))
            )[:12],
            "evaluation_truncated": tasks.longer_than(task, tokenizer, tokenizer.model_max_length),
            "prompt_hash": tasks.prompt_hash(task),
            "task_version": str(task.VERSION),
            **({"own": True} if name in own else {}),
        }
    return {name: objects[name] for name in spec.trained_tasks}, encoded


@functools.lru_cache(maxsize=4)
def _splits(
    source: str, names: tuple[str, ...], split: str, revisions: str, own_tasks: str | None
) -> dict[str, sources.Split]:
    """Read what several jobs of a plan share once."""
    return sources.splits(source, names, split, json.loads(revisions))


def forget() -> None:
    """Read documents anew from here on, as they lie on the disk then."""
    _splits.cache_clear()


def _first(documents: datasets.Dataset, limit: int | None) -> datasets.Dataset:
    return documents.select(range(min(limit or len(documents), len(documents))))
