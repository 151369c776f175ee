"""Documents by the path that a task's file names: a repository of the hub at one commit, or files that lie here.

The splits are the task's own: its training split to train on, its test split (else its validation split) to evaluate
on. A task without a training split trains on validation where a test split is there; where only one split is left, it
is cut in two halves as the embedded source does it.

No commit is written down here. A run asks the hub for the newest one of each data set, or takes what `--revision`
pins, and its spec records it, so that `--revision` with the recorded commits repeats the run. Without a network, the
folder `SMOE_HUB` may hold repositories as `<organisation>/<name>`; their revision is a hash over their files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from benchmarks.data.documents import Doc, content, folder_hash, halves, normalised

COPIES = "SMOE_HUB"  # folder with copies of the hub's repositories
FILES = ("arrow", "csv", "json", "parquet", "text")  # `dataset_path` of a task whose `data_files` are files
TIMEOUT_SECONDS = 20.0
# The hub's own error, and the base of all errors of its HTTP library, which differs between its versions.
UNREACHABLE: tuple[type[Exception], ...] = (OSError, HfHubHTTPError.__bases__[0])
Settings = Mapping[str, Any]  # what a task's file says (`tasks.settings`)


def is_local(settings: Settings) -> bool:
    """Whether the task's documents are files on this machine that the task's own file names."""
    return settings.get("dataset_path") in FILES or _folder_beside(settings) is not None


def revisions(tasks: Iterable[Settings], pinned: Mapping[str, str]) -> dict[str, str]:
    """Return the commit of every data set that the tasks read from the hub, or the hash of its copy, by its path.

    Raises ValueError when the hub cannot be asked, or for a pinned data set that is not read or whose copy is another.
    """
    paths = sorted({str(s["dataset_path"]) for s in tasks if not is_local(s)})
    if surplus := sorted(pinned.keys() - set(paths)):
        raise ValueError(
            f"revision of {', '.join(surplus)}: this run reads {', '.join(paths) or 'nothing from the hub'}"
        )
    versions = {}
    for path in paths:
        if (copy := _copy(path)) is not None:
            versions[path] = f"sha256:{folder_hash(copy)}"
            if pinned.get(path, versions[path]) != versions[path]:
                raise ValueError(f"{path}: the copy in {COPIES} is {versions[path]}, not {pinned[path]}")
        else:
            versions[path] = pinned.get(path) or _newest(path)
    return versions


def read(settings: Settings, revisions: Mapping[str, str]) -> tuple[list[Doc], list[Doc]]:
    """(training, evaluation) documents of a task, before the leak check. Raises ValueError where they cannot be had."""
    task, data = settings["task"], _load(settings, revisions)
    train, test = settings.get("training_split"), settings.get("test_split") or settings.get("validation_split")
    if train is None and settings.get("test_split"):
        train = settings.get("validation_split")
    for split in filter(None, (train, test)):
        if split not in data:
            raise ValueError(f"task {task}: its data set has no split {split!r}; it has: {', '.join(data)}")
    if test is None:
        raise ValueError(f"task {task} names neither a test nor a validation split")
    if train is None or train == test:
        docs = [dict(d) for d in data[test]]
        return halves(docs, [normalised(content(d)) for d in docs])
    return [dict(d) for d in data[train]], [dict(d) for d in data[test]]


def _load(settings: Settings, revisions: Mapping[str, str]) -> Mapping[str, datasets.Dataset]:
    if "class" in settings or settings.get("custom_dataset") or not settings.get("dataset_path"):
        raise ValueError(f"task {settings['task']} makes its documents in Python, which no source here can read")
    path, name = str(settings["dataset_path"]), settings.get("dataset_name")
    options = {k: v for k, v in (settings.get("dataset_kwargs") or {}).items() if k != "trust_remote_code"}
    if (files := options.get("data_files")) is not None:
        options["data_files"] = _beside(settings, files)
    if is_local(settings):
        revision, path = None, str(_folder_beside(settings) or path)
    elif (copy := _copy(path)) is not None:
        revision = None
        if (version := f"sha256:{folder_hash(copy)}") != revisions.get(path, version):
            raise ValueError(f"{path}: the copy in {COPIES} has changed since the run was planned")
        path = str(copy)
    else:
        revision = revisions.get(path)
    try:
        return datasets.load_dataset(path, name, revision=revision, **options)
    except UNREACHABLE as error:  # no network, no such repository, no such file
        raise ValueError(_unreachable(settings["dataset_path"], error)) from error


def _newest(path: str) -> str:
    try:
        return str(HfApi().dataset_info(path, timeout=TIMEOUT_SECONDS).sha)
    except UNREACHABLE as error:
        raise ValueError(_unreachable(path, error)) from error


def _unreachable(path: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"data set {path} cannot be had from the hub ({reason}). Without it: --source embedded, a copy in "
        f"{COPIES}/{path}, or --revision {path}=COMMIT for one that the cache of `datasets` holds"
    )


def _copy(path: str) -> Path | None:
    folder = Path(os.environ[COPIES]) / path if os.environ.get(COPIES) else None
    return folder if folder is not None and folder.is_dir() else None


def _folder_beside(settings: Settings) -> Path | None:
    """Return the folder that `dataset_path` names, beside the task's file or by its whole path; None without one."""
    path = settings.get("dataset_path")
    folder = Path(settings["folder"]) / str(path)
    return folder if path is not None and path not in FILES and folder.is_dir() else None


def _beside(settings: Settings, files: Any) -> Any:
    """`data_files` with every name that is a file beside the task's own file made a path to it."""
    if isinstance(files, Mapping):
        return {split: _beside(settings, part) for split, part in files.items()}
    if isinstance(files, list | tuple):
        return [_beside(settings, part) for part in files]
    beside = Path(settings["folder"]) / str(files)
    return str(beside) if beside.is_file() else files
