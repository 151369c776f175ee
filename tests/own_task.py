"""A task of one's own, written into a folder: documents of three choices, and lines that overrule its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.data.training import training_data
from benchmarks.models import load as models
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve

TASK = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{train: {name}-train.jsonl, test: {name}-test.jsonl}}}}
training_split: train
test_split: test
output_type: multiple_choice
doc_to_text: '{{{{q}}}}'
doc_to_choice: '{{{{choices}}}}'
doc_to_target: gold
metric_list: [{{metric: acc}}]
"""
WRITTEN = "output_type: generate_until\ndoc_to_choice: null\nmetric_list: [{metric: exact_match}]\n"
Row = dict[str, Any]


def rows(count: int, start: int = 0, **more: Any) -> list[Row]:
    """Make documents numbered from `start`, with further columns."""
    return [
        {"q": f"Item {i} is", "choices": ["big", "small", "red"], "gold": i % 3, **more}
        for i in range(start, start + count)
    ]


def write_task(
    folder: Path,
    train: list[Row] | None = None,
    test: list[Row] | None = None,
    extra: str = "",
    code: str = "",
    name: str = "t",
) -> None:
    """Write a task. extra: lines of its file that overrule those above; code: the folder's utils.py."""
    folder.mkdir(exist_ok=True)
    kept = [line for line in TASK.format(name=name).splitlines() if f"{line.split(':')[0]}:" not in _keys(extra)]
    (folder / f"{name}.yaml").write_text("\n".join(kept) + "\n" + extra)
    (folder / "utils.py").write_text(code)
    for split, documents in (("train", train or rows(40)), ("test", test or rows(20, 100))):
        (folder / f"{name}-{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in documents))


def _keys(lines: str) -> set[str]:
    return {f"{line.split(':')[0]}:" for line in lines.splitlines()}


def specs(**options: Any) -> list[Any]:
    """Resolve a small run on the task "t"."""
    usual = {
        "tasks": "t", "model": "tiny", "methods": "lora:r=2", "train_documents": 16, "limit": 20, "dtype": "float32",
        "device": "cpu", "batch_size": 4, "seeds": "0",
    }  # fmt: skip
    return resolve(Request(**usual | options))


def described(**options: Any) -> tuple[Any, Any, Any]:
    """Return what a job of the run reads: tasks, training documents and what is told of them."""
    (spec,) = specs(**options)
    description = {}
    _, tokenizer = models.load("tiny", "float32", "cpu")
    objects, examples = training_data(spec, tokenizer, description)
    return objects, examples, description
