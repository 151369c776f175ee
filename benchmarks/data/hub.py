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
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import datasets
from datasets.naming import camelcase_to_snakecase
from datasets.packaged_modules.cache.cache import Cache
from huggingface_hub import HfApi

from benchmarks.data.documents import Doc, content, folder_hash, halves, same_text
from benchmarks.models.remote import UNREACHABLE, patiently, refusal

COPIES = "SMOE_HUB"  # folder with copies of the hub's repositories
FILES = ("arrow", "csv", "json", "parquet", "text")  # `dataset_path` of a task whose `data_files` are files
TIMEOUT_SECONDS = 20.0
COMMIT = re.compile(r"[0-9a-f]{7,40}|sha256:\w+")  # anything else that `--revision` names is a branch or a tag
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
            asked = pinned.get(path)
            versions[path] = asked if asked and COMMIT.fullmatch(asked) else _newest(path, asked)
    return versions


def read(settings: Settings, revisions: Mapping[str, str]) -> tuple[list[Doc], list[Doc], datasets.Features | None]:
    """(training, evaluation) documents of a task before the leak check, and the features that both sets have.

    Images and sounds are left as bytes. Raises ValueError where they cannot be had.
    """
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
        docs = _documents(data[test])
        first, second = halves(docs, [same_text(content(d)) for d in docs])
        return first, second, data[test].features
    same = data[train].features == data[test].features
    return _documents(data[train]), _documents(data[test]), data[train].features if same else None


def _documents(data: datasets.Dataset) -> list[Doc]:
    for name, feature in data.features.items():
        if isinstance(feature, datasets.Image | datasets.Audio):
            data = data.cast_column(name, type(feature)(decode=False))
    return [dict(d) for d in data]


def _load(settings: Settings, revisions: Mapping[str, str]) -> Mapping[str, datasets.Dataset]:
    if "class" in settings or settings.get("custom_dataset") or not settings.get("dataset_path"):
        raise ValueError(f"task {settings['task']} makes its documents in Python, which no source here can read")
    path, name = str(settings["dataset_path"]), settings.get("dataset_name")
    options = {k: v for k, v in (settings.get("dataset_kwargs") or {}).items() if k != "trust_remote_code"}
    for kind in ("data_files", "data_dir"):
        if (files := options.get(kind)) is not None:
            options[kind] = _beside(settings, files)
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
        if revision is None:
            return datasets.load_dataset(path, name, revision=None, **options)
        return _at_commit(path, name, revision, options)
    except UNREACHABLE as error:  # no network, no such repository, no such file
        raise ValueError(_unreachable(settings["dataset_path"], _cause(path, revision, error), revision)) from error
    except Exception as error:  # of whatever reads the files: broken JSON, columns of several types
        raise ValueError(
            f"task {settings['task']}: its data set cannot be read ({type(error).__name__}: "
            f"{(str(error).strip().splitlines() or [''])[0]}); {_remedy(error)}"
        ) from error


def _at_commit(path: str, name: str | None, revision: str, options: dict[str, Any]) -> Mapping[str, datasets.Dataset]:
    """Return a data set of the hub at one commit: what the cache of `datasets` holds of it, else from the hub.

    `datasets` takes whatever commit it used last where the hub does not answer, which is refused here.
    """
    if not options and (kept := _kept(path, name, revision)) is not None:
        return kept

    def load() -> Mapping[str, datasets.Dataset]:
        data: Mapping[str, datasets.Dataset] = datasets.load_dataset(path, name, revision=revision, **options)
        folders = [Path(file["filename"]).parent.name for part in data.values() for file in part.cache_files]
        if other := [commit for commit in folders if not commit.startswith(revision)]:
            raise ConnectionError(f"the cache holds its commit {other[0]}, not {revision}")
        return data

    return patiently(load)


def _kept(path: str, name: str | None, revision: str) -> Mapping[str, datasets.Dataset] | None:
    """Return what the cache of `datasets` holds of a commit, or None."""
    organisation, _, last = path.rpartition("/")
    place = "___".join(filter(None, (organisation, camelcase_to_snakecase(last))))
    found = [*Path(datasets.config.HF_DATASETS_CACHE).expanduser().glob(f"{place}/{name or 'default'}/*/{revision}*")]
    found = [folder for folder in found if folder.is_dir() and not folder.name.endswith(".incomplete")]
    if len(found) != 1:
        return None
    configuration, version, commit = found[0].parts[-3:]
    builder = Cache(repo_id=path, dataset_name=last, config_name=configuration, version=version, hash=commit)
    builder.download_and_prepare()
    return builder.as_dataset()  # type: ignore[no-any-return]


def _cause(path: str, revision: str | None, error: Exception) -> Exception:
    """Return what the hub says of a data set that could not be loaded; `datasets` does not always pass it on."""
    if revision is None or Path(path).exists():
        return error
    try:
        HfApi().dataset_info(path, revision=revision, timeout=TIMEOUT_SECONDS)
    except UNREACHABLE as told:
        return told
    return error


def _remedy(error: Exception) -> str:
    if "scripts are no longer supported" in str(error):
        return "it is a script, which nothing runs any more: set dataset_path of the task to a copy as Parquet or JSON"
    return "each column needs one type in every document"


def _newest(path: str, branch: str | None) -> str:
    """Return the newest commit of a branch or tag; of the main branch where none is named."""
    try:
        return str(patiently(lambda: HfApi().dataset_info(path, revision=branch, timeout=TIMEOUT_SECONDS)).sha)
    except UNREACHABLE as error:
        raise ValueError(_unreachable(path, error)) from error


def _unreachable(path: str, error: Exception, commit: str | None = None) -> str:
    otherwise = (
        f"--source embedded, a copy in {COPIES}/{path}, or --revision {path}=COMMIT for one that the cache of "
        "`datasets` holds"
    )
    return refusal(f"data set {path}", error, f"datasets/{path}", otherwise, commit)


def _copy(path: str) -> Path | None:
    folder = Path(os.environ[COPIES]) / path if os.environ.get(COPIES) else None
    return folder if folder is not None and folder.is_dir() else None


def _folder_beside(settings: Settings) -> Path | None:
    """Return the folder that `dataset_path` names, beside the task's file or by its whole path; None without one."""
    path = settings.get("dataset_path")
    folder = Path(settings["folder"]) / str(path)
    return folder if path is not None and path not in FILES and folder.is_dir() else None


def _beside(settings: Settings, files: Any) -> Any:
    """`data_files` or `data_dir` with every name that lies beside the task's own file made a path to it.

    A local task's own files alone are read, never those of the current folder. Raises ValueError for one that is not
    there.
    """
    if isinstance(files, Mapping):
        return {split: _beside(settings, part) for split, part in files.items()}
    if isinstance(files, list | tuple):
        return [_beside(settings, part) for part in files]
    name, folder = str(files), Path(settings["folder"])
    if "://" in name or Path(name).is_absolute():
        return files
    if (folder / name).exists() or any(folder.glob(name)):
        return str(folder / name)
    if settings.get("dataset_path") in FILES:
        raise ValueError(f"task {settings['task']}: no file {name} beside its own file in {folder}")
    return files
