"""What the jobs of one run read, made once: training examples in tokens, evaluation documents, and their description.

The run's plan makes all of it to look at it (benchmarks/plan/dry_run.py); what it made lies in the folder of
`SMOE_PREPARED` while the run lasts, a safetensors file for each content: nothing that is read is executed. A file's
name is a hash over what decides its content: documents (source, revisions, files of one's own tasks), tasks and
protocol, the model's tokeniser, and the counts and lengths that were asked. Documents that JSON does not give back as
they are (images, dates) are not kept, and each job makes them anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from benchmarks.data.documents import Doc, text_hash
from benchmarks.data.examples import Example
from results import RunSpec

FOLDER = "SMOE_PREPARED"  # a run sets it for its jobs
DECIDES = (
    "model", "model_content", "suite", "suite_version", "tasks", "task", "source", "split", "revisions", "own_tasks",
    "protocol", "evaluation_limit", "task_shares", "data_seed", "train_documents", "max_length", "trust_remote_code",
)  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """What a job with scores reads, by task."""

    examples: dict[str, list[Example]]
    documents: dict[str, list[Doc]]  # of evaluation, as the task's own processing leaves them
    description: dict[str, Any]  # of the data, for the record


@contextlib.contextmanager
def folder(place: Path | None = None) -> Iterator[None]:
    """Inside, and in the processes that are started inside, what was made once is found again.

    place: an existing folder to keep it in, for longer than this; None: one that goes in the end.
    """
    before = os.environ.get(FOLDER)
    with contextlib.nullcontext(place) if place else tempfile.TemporaryDirectory(prefix="smoe-prepared-") as chosen:
        os.environ[FOLDER] = str(chosen)
        try:
            yield
        finally:
            os.environ.pop(FOLDER)
            if before is not None:
                os.environ[FOLDER] = before


def file_of(spec: RunSpec) -> Path | None:
    """Return where the data of a job lies, or None where no run keeps any."""
    if not (place := os.environ.get(FOLDER)):
        return None
    decides = {name: getattr(spec, name) for name in DECIDES}
    return Path(place) / f"{text_hash(json.dumps(decides, sort_keys=True))}.safetensors"


def find(spec: RunSpec) -> Prepared | None:
    """Return what was made for a job of the same data, or None where there is none that can be read."""
    file = file_of(spec)
    if file is None or not file.is_file():
        return None
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError):
        return None
    told = json.loads(tensors["text"].numpy().tobytes())
    ids = tensors["ids"].tolist()
    ends = accumulate(tensors["lengths"].tolist(), initial=0)
    rows = zip(pairwise(ends), tensors["answers"].tolist(), tensors["truncated"].tolist(), strict=True)
    examples = {
        task: [
            Example(task, tuple(ids[start:end]), answer, bool(cut))
            for (start, end), answer, cut in (next(rows) for _ in range(count))
        ]
        for task, count in told["counts"].items()
    }
    return Prepared(examples, told["documents"], told["description"])


def keep(spec: RunSpec, made: Prepared) -> None:
    """Keep what was made for the jobs to come, where a run keeps it and its documents are what JSON can tell."""
    file = file_of(spec)
    told = {"documents": made.documents, "description": made.description}
    if file is None or not _is_plain(told):
        return
    every = [example for of_task in made.examples.values() for example in of_task]
    counts = {task: len(of_task) for task, of_task in made.examples.items()}
    text = json.dumps({**told, "counts": counts}).encode()
    tensors = {
        "ids": torch.tensor([i for example in every for i in example.ids], dtype=torch.int32),
        "lengths": torch.tensor([len(example.ids) for example in every], dtype=torch.int32),
        "answers": torch.tensor([example.answer_tokens for example in every], dtype=torch.int32),
        "truncated": torch.tensor([example.truncated for example in every], dtype=torch.uint8),
        "text": torch.frombuffer(bytearray(text), dtype=torch.uint8),
    }
    part = file.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):  # a full disk costs time, no more
        save_file(tensors, part)
        os.replace(part, file)


def _is_plain(value: Mapping[str, Any]) -> bool:
    """Tell whether JSON gives the value back as it is."""
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False
