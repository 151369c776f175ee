"""Tasks by name: where each is defined, what its file says, and what it asks of a model, to the letter.

A task is lm-evaluation-harness's, this repository's (definitions/), or one's own in the folders of `SMOE_TASKS`. This
file and benchmarks/jobs/evaluate.py alone import lm-eval: here tasks and prompts, there scores.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import lm_eval.tasks
from lm_eval.api.registry import DEFAULT_METRIC_REGISTRY
from lm_eval.tasks import TaskManager

from benchmarks.data.documents import Doc
from benchmarks.models.assets import cache
from benchmarks.suite import DEFINITIONS, PROTOCOLS
from results.files import write_whole
from results.names import unknown

OWN = "SMOE_TASKS"  # folders of one's own lm-eval tasks, separated like PATH
TASKS = DEFINITIONS / "tasks"  # of this repository, which lm-eval lacks
NO_EXAMPLES = {"num_fewshot": 0, "fewshot_split": None, "fewshot_config": None}  # in prompts: models are trained here


def task_objects(splits: Mapping[str, datasets.DatasetDict], protocol: str = "loglik") -> dict[str, Any]:
    """Return the task of each name, reading "train" and "evaluate" of `splits` in place of hub data.

    The protocol's folder defines it, or lm-eval where that has no such file. Raises ValueError for a name that neither
    defines.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns at length about the custom data set
    folder_of = folders() | {file.stem: str(file.parent) for file in (PROTOCOLS / protocol).glob("[!_]*.yaml")}
    if missing := sorted(set(splits) - set(folder_of)):
        raise ValueError(f"lm-eval defines no task named {', '.join(missing)}")
    manager = TaskManager(include_defaults=False, include_path=sorted({folder_of[name] for name in splits}))
    members = [
        {
            "task": name,
            "custom_dataset": lambda data=data, **_: data,
            "training_split": "train",
            "validation_split": None,
            "test_split": "evaluate",
            **NO_EXAMPLES,
        }
        for name, data in splits.items()
    ]
    datasets.disable_progress_bars()
    return manager.load([{"group": "suite", "task": members}])["tasks"]


def folders() -> dict[str, str]:
    """Map every task there is to the folder of its file: lm-eval's, this repository's, and one's own.

    Raises ValueError for one's own task with a name that is taken.
    """
    published = task_folders() | {file.stem: str(TASKS) for file in TASKS.glob("[!_]*.yaml")}
    private = own_tasks()
    if taken := sorted(published.keys() & private.keys()):
        raise ValueError(f"{OWN}: {', '.join(taken)}: lm-eval or this repository has a task of that name")
    return published | private


def own_tasks() -> dict[str, str]:
    """Map every task of `SMOE_TASKS` to the folder of its file. Raises ValueError for a folder without tasks."""
    folder_of: dict[str, str] = {}
    for folder in filter(None, os.environ.get(OWN, "").split(os.pathsep)):
        index = TaskManager(include_defaults=False, include_path=folder).task_index
        here = {name: str(entry.yaml_path.parent) for name, entry in index.items() if entry.yaml_path is not None}
        if not here:
            raise ValueError(f"{OWN}: no task file (*.yaml) in {folder}")
        folder_of |= here
    return folder_of


def settings(name: str) -> dict[str, Any]:
    """Return what the task's file says, functions left as their names; "folder" is where it lies.

    Raises ValueError for a name that is unknown or stands for several tasks.
    """
    folder_of = folders()
    if name not in folder_of:
        raise unknown("task", name, folder_of)
    entry = TaskManager(include_defaults=False, include_path=folder_of[name]).task_index[name]
    written = entry.cfg or {}
    if "group" in written:
        raise ValueError(f"{name} is a group of tasks: name the tasks themselves")
    return {**written, "folder": folder_of[name]}


def headline(settings: Mapping[str, Any]) -> str:
    """Name the metric of a task that goes into tables."""
    kind = settings.get("output_type", "generate_until")
    listed = [str(m["metric"]) for m in settings.get("metric_list") or ()] or DEFAULT_METRIC_REGISTRY[kind]
    names = [os.path.basename(name).split(".")[-1] for name in listed]  # a function's path stands for its name
    return next((name for name in ("acc_norm", "acc") if name in names), names[0])


def task_folders() -> dict[str, str]:
    """Map every task that lm-eval defines to the folder of its file.

    Reading its thousands of files takes ten seconds, so the list is kept in the cache for the installed version.
    """
    root = Path(lm_eval.tasks.__file__).parent
    index_file = cache() / f"lm-eval-{importlib.metadata.version('lm_eval')}-tasks.json"
    if index_file.is_file():
        relative = json.loads(index_file.read_text())
    else:
        index = TaskManager().task_index
        paths = {name: entry.yaml_path for name, entry in index.items() if entry.yaml_path is not None}
        relative = {
            name: str(path.parent.relative_to(root)) for name, path in paths.items() if path.is_relative_to(root)
        }
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, no more
            write_whole(index_file, json.dumps(relative))
    return {name: str(root / folder) for name, folder in relative.items()}


def training_pairs(task: Any, docs: list[Doc], end: str = "") -> list[tuple[str, str]]:
    """Give the (context, continuation) of each document: the request that lm-eval would score as the right answer.

    docs: as `training_docs(task)` yields them; end: closes an answer that is to be written. Raises ValueError for a
    document without a right answer.
    """
    pairs = []
    for doc in docs:
        requests = _requests(task, doc)
        if task.OUTPUT_TYPE == "loglikelihood":
            pairs.append(requests.args)
            continue
        if not isinstance(requests, list):  # generate_until: one request, the target follows the context
            target = task.doc_to_target(doc)
            pairs.append((requests.args[0], task.config.target_delimiter + str(target) + end))
            continue
        gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
        gold = gold[0] if isinstance(gold, list) else gold
        gold = task.doc_to_choice(doc).index(gold) if isinstance(gold, str) else gold
        if not 0 <= gold < len(requests):
            raise ValueError(f"task {task.config.task}: no right answer in document {doc}")
        pairs.append(requests[gold].args)
    return pairs


def training_docs(task: Any) -> list[Doc]:
    """List the training documents as the task's own processing leaves them."""
    return list(task.training_docs())


def prompt_hash(task: Any) -> str:
    """Return 12 hex of a hash over every request of the evaluation documents: what is asked, to the letter."""
    digest = hashlib.sha256()
    for doc in task.eval_docs:
        requests = _requests(task, doc)
        for request in requests if isinstance(requests, list) else [requests]:
            digest.update(json.dumps(request.args, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:12]


def _requests(task: Any, doc: Doc) -> Any:
    """One request for each choice, or a single one to be answered by generation."""
    context = task.fewshot_context(doc, num_fewshot=0, gen_prefix=task.doc_to_prefix(doc))
    return task.construct_requests(doc=doc, ctx=context, metadata=(None, 0, 1))
