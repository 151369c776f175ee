"""What every probe uses: a made-up task, a made-up model, a run in this process. The suite is imported here alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.data import sources
from benchmarks.data.batches import collate
from benchmarks.data.documents import fingerprint
from benchmarks.data.examples import encode
from benchmarks.data.tasks import task_objects, training_docs, training_pairs
from benchmarks.jobs.child import attempt
from benchmarks.jobs.executors import LocalProcesses
from benchmarks.jobs.session import preflight
from benchmarks.models.load import _byte_tokenizer as byte_tokenizer
from benchmarks.models.load import _tiny_config as llama
from benchmarks.models.load import load as load_model
from benchmarks.plan.parse import parse_methods
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from reports.analysis.groups import load_records, make_groups
from results import Record, RunSpec
from results.store import Store
from smoe import sensitivity

__all__ = [
    "GENERATE",
    "SMALL",
    "LocalProcesses",
    "Store",
    "byte_tokenizer",
    "collate",
    "encode",
    "fingerprint",
    "llama",
    "load_model",
    "load_records",
    "make_groups",
    "model",
    "parse_methods",
    "rows",
    "run",
    "sensitivity",
    "sources",
    "specs",
    "task",
    "task_objects",
    "training_docs",
    "training_pairs",
]  # fmt: skip

TASK = """task: t
dataset_path: json
dataset_kwargs: {data_files: {train: train.jsonl, test: test.jsonl}}
training_split: train
test_split: test
output_type: multiple_choice
doc_to_text: '{{q}}'
doc_to_choice: '{{choices}}'
doc_to_target: gold
metric_list: [{metric: acc}]
"""
GENERATE = "output_type: generate_until\ndoc_to_choice: null\nmetric_list: [{metric: exact_match}]\n"
SMALL = {
    "vocab_size": 258, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "bos_token_id": 256, "eos_token_id": 257,
}  # fmt: skip
Row = dict[str, Any]


def rows(count: int, start: int = 0) -> list[Row]:
    """Make documents of three choices each, numbered from `start`."""
    return [
        {"q": f"Item {i} is", "choices": ["big", "small", "red"], "gold": i % 3} for i in range(start, start + count)
    ]


def task(train: list[Row] | None = None, test: list[Row] | None = None, extra: str = "", code: str = "") -> None:
    """Write the task `t` into the folder t and make it known. extra: lines that overrule TASK; code: its utils.py."""
    folder = Path("t")
    folder.mkdir(exist_ok=True)
    (folder / "t.yaml").write_text(TASK + extra)
    (folder / "utils.py").write_text(code)
    for split, documents in (("train", train or rows(40)), ("test", test or rows(20, 100))):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in documents))
    os.environ["SMOE_TASKS"] = str(folder.resolve())


def specs(**options: Any) -> list[RunSpec]:
    """Plan a run of the task `t` by LoRA on the tiny model, with other options where given."""
    usual: dict[str, Any] = {
        "tasks": "t", "model": "tiny", "methods": "lora:r=2:alpha=4", "train_documents": 16, "limit": 20,
        "dtype": "float32", "device": "cpu", "batch_size": 4, "seeds": "0",
    }  # fmt: skip
    return resolve(Request(**usual | options))


def run(**options: Any) -> list[Record]:
    """Plan, check and run in this process; print what became of each job."""
    planned = specs(**options)
    preflight(planned)
    records = [attempt(spec, lambda *progress: None) for spec in planned]
    for r in records:
        outcome = r.error or {name: (round(s.value, 3), s.count) for name, s in r.scores.items()}
        print("  ", r.spec.method, r.status, outcome, "after", ",".join(r.costs))
    return records


def model(folder: str, config: Any = None, tokenizer: Any = None, seed: int = 0) -> str:
    """Save a model with random weights, by default a tiny Llama with a byte tokeniser."""
    torch.manual_seed(seed)
    transformers.AutoModelForCausalLM.from_config(config or llama()).save_pretrained(folder)
    (tokenizer or byte_tokenizer()).save_pretrained(folder)
    return folder
