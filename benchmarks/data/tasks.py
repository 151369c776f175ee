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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import datasets
import lm_eval.tasks
from lm_eval.api.registry import DEFAULT_METRIC_REGISTRY
from lm_eval.tasks import TaskManager
from lm_eval.utils import handle_non_serializable, hash_string

from benchmarks.data.documents import Doc
from benchmarks.models.assets import cache
from benchmarks.suites import DEFINITIONS, PROTOCOLS
from results.files import write_whole
from results.names import unknown
from smoe.tokens import scored_tokens, written_tokens

T = TypeVar("T")
SHOWN = 160  # characters of a document in a message

OWN = "SMOE_TASKS"  # folders of one's own lm-eval tasks, separated like PATH
TASKS = DEFINITIONS / "tasks"  # of this repository, which lm-eval lacks
_SPLITS = ("training_split", "validation_split", "test_split")
_KINDS = {**dict.fromkeys((*_SPLITS, "dataset_path"), str), "dataset_kwargs": dict}
_KIND_NAMES = {str: "a text", dict: "a mapping"}
NO_EXAMPLES = {"num_fewshot": 0, "fewshot_split": None, "fewshot_config": None}  # in prompts: models are trained here


def from_documents(documents: Mapping[str, list[Doc]], protocol: str = "loglik") -> dict[str, Any]:
    """Return the task of each name over evaluation documents that its own processing has left, as `fix_documents` does.

    There are no training documents to be had of it.
    """
    first = {name: datasets.Dataset.from_list(docs[:1]) for name, docs in documents.items()}
    splits = {name: datasets.DatasetDict(train=one, evaluate=one) for name, one in first.items()}
    objects = task_objects(splits, protocol, process_docs=None)
    for name, task in objects.items():
        task.dataset = {"train": [], "evaluate": documents[name]}
    return objects


def task_objects(
    splits: Mapping[str, datasets.DatasetDict], protocol: str = "loglik", **settings: Any
) -> dict[str, Any]:
    """Return the task of each name, reading "train" and "evaluate" of `splits` in place of hub data.

    The protocol's folder defines it, or lm-eval where that has no such file. settings: in place of what its file says.
    Raises ValueError for a name that neither defines.
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
            **settings,
        }
        for name, data in splits.items()
    ]
    datasets.disable_progress_bars()
    objects: dict[str, Any] = {}
    for member in members:
        try:
            objects |= manager.load([{"group": "suite", "task": [member]}])["tasks"]
        except Exception as error:  # of a task's own code, and of lm-eval's look at its first document
            raise ValueError(f"task {member['task']}: lm-eval cannot build it: {_reason(error)}") from error
    return objects


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
    for field, kind in _KINDS.items():
        if not isinstance(value := written.get(field), kind | None):  # type: ignore[operator]
            raise ValueError(f"task {name}: {field} must be {_KIND_NAMES[kind]}, got {value!r:.80}")
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


def training_pairs(task: Any, docs: list[Doc], end: str | None = "") -> list[tuple[str, str]]:
    """Give the (context, continuation) of each document: the request that lm-eval would score as the right answer.

    docs: as `training_docs(task)` yields them; end: closes an answer that is to be written. Of several right answers
    the first counts. Raises ValueError for a document without a right answer, naming task and document.
    """
    return [about(task, doc, lambda doc=doc: _pair(task, doc, end or "")) for doc in docs]  # type: ignore[misc]


def _pair(task: Any, doc: Doc, end: str) -> tuple[str, str]:
    requests = task_requests(task, doc)
    if task.OUTPUT_TYPE == "loglikelihood":
        context, answer = requests[0].args
        return context, answer
    if is_written(task):  # one request, the target follows the context
        return requests[0].args[0], task.config.target_delimiter + written_answers(task, doc)[0] + end
    gold = right_choices(task, doc)
    if not gold:
        raise ValueError("no right answer among its choices")
    context, answer = requests[gold[0]].args
    return context, answer


def written_answers(task: Any, doc: Doc) -> list[str]:
    """Return the right answers of a task whose answers are written, its own choice first."""
    target = task.doc_to_target(doc)
    if task.config.doc_to_choice is not None:
        target = task.doc_to_choice(doc)[target]
    targets = target if isinstance(target, list) else [target]
    if not targets or any(t is None for t in targets):
        raise ValueError("no right answer")
    return [str(t) for t in targets]


def right_choices(task: Any, doc: Doc) -> list[int]:
    """Return the indices of the right choices, as lm-eval's own scoring reads them; none where one of them is none."""
    choices = task.doc_to_choice(doc)
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    indices = [
        (choices.index(g) if g in choices else None) if isinstance(g, str) else g
        for g in (gold if isinstance(gold, list) else [gold])
    ]
    valid = [i for i in indices if isinstance(i, int) and 0 <= i < len(choices)]
    return valid if len(valid) == len(indices) else []


def doc_hash(doc: Doc) -> str:
    """Return the hash by which lm-eval's results name a document."""
    text = json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False)
    return str(hash_string(text))


class DocumentError(ValueError):
    """What is wrong with one document of a task; the message names both."""


def about(task: Any, doc: Doc, make: Callable[[], T]) -> T:
    """Return what `make` gives; whatever it raises becomes a DocumentError that names task and document."""
    try:
        return make()
    except DocumentError:
        raise
    except Exception as error:  # of a task's own code
        shown = json.dumps(doc, ensure_ascii=False, default=str)[:SHOWN]
        raise DocumentError(f"task {task.config.task}: {_reason(error)}; in the document {shown}") from error


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text[0] if text else ''}"


def is_written(task: Any) -> bool:
    """Tell whether the model writes its answers to a task, where others score answers that are there."""
    return bool(task.OUTPUT_TYPE == "generate_until")


def fix_documents(task: Any, limit: int | None) -> None:
    """Process the task's documents by its own code once, and keep of those for evaluation the first `limit`.

    Raises ValueError where none is left.
    """
    train, evaluate = (about(task, {}, lambda docs=docs: list(docs())) for docs in (task.training_docs, task.test_docs))  # type: ignore[misc]
    for name, docs in (("training", train), ("evaluation", evaluate)):
        if not docs:
            raise ValueError(f"task {task.config.task}: its own processing leaves no {name} document")
    task.set_config("process_docs", None)
    task.dataset = {"train": train, "evaluate": evaluate[:limit]}


def training_docs(task: Any) -> list[Doc]:
    """List the training documents as the task's own processing leaves them."""
    return list(task.training_docs())


def longer_than(task: Any, tokenizer: Any, positions: int) -> int:
    """Count the evaluation documents of which evaluation reads a part alone: a request is longer than `positions`."""
    return sum(
        any(len(request_tokens(task, tokenizer, request)) > positions for request in task_requests(task, doc)
            if sum(len(text.encode()) for text in request.args if isinstance(text, str)) >= positions - 2)
        for doc in task.eval_docs
    )  # fmt: skip


def request_tokens(task: Any, tokenizer: Any, request: Any) -> tuple[int, ...]:
    """Return the tokens that a request reads. Raises ValueError where evaluation could not make them."""
    context, answer = request.args
    if is_written(task):
        return written_tokens(tokenizer, context, "a").context
    tokens = scored_tokens(tokenizer, context, answer)
    return tokens.context + tokens.answer


def prompt_hash(task: Any) -> str:
    """Return 12 hex of a hash over every request of the evaluation documents: what is asked, to the letter."""
    digest = hashlib.sha256()
    for doc in task.eval_docs:
        for request in task_requests(task, doc):
            digest.update(json.dumps(request.args, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:12]


def task_requests(task: Any, doc: Doc) -> list[Any]:
    """One request for each choice, or a single one to be answered by generation. Raises DocumentError."""

    def make() -> Any:
        context = task.fewshot_context(doc, num_fewshot=0, gen_prefix=task.doc_to_prefix(doc))
        return task.construct_requests(doc=doc, ctx=context, metadata=(None, 0, 1))

    requests = about(task, doc, make)
    return requests if isinstance(requests, list) else [requests]
