"""The documents of a job that has scores: training examples, and lm-eval's tasks over the evaluation documents."""

from __future__ import annotations

from typing import Any

from benchmarks.data import examples, sources, tasks
from benchmarks.data.documents import fingerprint, text_hash
from results import RunSpec


def sizes(spec: RunSpec) -> dict[str, int]:
    """Return how many training documents there are of each task, after the leak check."""
    splits = sources.splits(spec.source, spec.tasks, spec.split, spec.revisions)
    return {task: len(documents["train"]) for task, documents in splits.items()}


def training_data(
    spec: RunSpec, tokenizer: Any, description: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, list[examples.Example]]]:
    """Return lm-eval's tasks over the evaluation documents, and the training examples of each task.

    Counts and hashes of both go into `description`, by task. Raises ValueError where the files of one's own tasks are
    not those that the run was planned with.
    """
    if sources.own_files(spec.tasks) != spec.own_tasks:
        raise ValueError(f"the files of one's own tasks changed after the run was planned, or {tasks.OWN} is not set")
    splits = sources.splits(spec.source, spec.tasks, spec.split, spec.revisions)
    counts = examples.shares({n: len(s["train"]) for n, s in splits.items()}, spec.train_documents, spec.task_shares)
    splits = {name: splits[name] for name in spec.trained_tasks}
    shared = {
        name: sources.leaks(name, list(split["train"]), list(split["evaluate"])) for name, split in splits.items()
    }
    for split in splits.values():
        limit = min(spec.evaluation_limit or len(split["evaluate"]), len(split["evaluate"]))
        split["evaluate"] = split["evaluate"].select(range(limit))
    objects = tasks.task_objects(splits, spec.protocol)
    encoded: dict[str, list[examples.Example]] = {}
    for name, task in objects.items():
        docs = examples.sample_documents(tasks.training_docs(task), counts[name], spec.data_seed, name)
        pairs = tasks.training_pairs(task, docs, end=tokenizer.eos_token)
        encoded[name] = [examples.encode(tokenizer, name, c, a, spec.max_length) for c, a in pairs]
        description[name] = {
            "train_documents": len(docs),
            "train_hash": text_hash("".join(c + a for c, a in pairs))[:12],
            "train_tokens": sum(len(e.ids) for e in encoded[name]),
            "truncated": sum(e.truncated for e in encoded[name]),
            "shared_with_training": shared[name],  # evaluation documents, of all before the limit
            "evaluation_documents": len(splits[name]["evaluate"]),
            "evaluation_hash": text_hash("".join(map(fingerprint, splits[name]["evaluate"])))[:12],
            "prompt_hash": tasks.prompt_hash(task),
            "task_version": str(task.VERSION),
        }
    return objects, encoded
