"""lm-evaluation-harness, called in process: the only import of lm-eval, whose keys become scores here.

Traps met on the way (lm-eval 0.4.13): the batch size must be set on the wrapper and never be "auto", since scores move
with it; with bf16 weights its log-softmax stays in bf16 unless told otherwise, and sums of such log-probabilities tie;
wrapping a model leaves it in evaluation mode; `bootstrap_iters=0` would turn every standard error into "N/A".
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import lm_eval.tasks
import torch
from lm_eval.evaluator import evaluate as lm_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from benchmarks import assets
from benchmarks.sources import Doc
from results import Score


class Wrapped(HFLM):
    """lm-eval's view of a model already loaded, which counts tokens and tells how far it is."""

    def __init__(self, model: torch.nn.Module, tokenizer: Any, batch_size: int, progress: Callable[[int, int], None]):
        super().__init__(
            pretrained=model, tokenizer=tokenizer, batch_size=batch_size, softmax_dtype="float32", backend="causal"
        )
        self.tokens = 0  # that stood in a request, padding left out
        self._progress = progress
        self._calls = 0
        self._requests = 0

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = False, override_bs: int | None = None) -> Any:
        # Requests that differ only in a one-token continuation share one pass, so the distinct inputs are what is run.
        inputs = {tuple(context + continuation[:-1]) for _, context, continuation in requests}
        self.tokens += sum(map(len, inputs))
        self._requests = len(inputs)
        return super()._loglikelihood_tokens(requests, disable_tqdm=True, override_bs=override_bs)

    def _model_call(self, inps: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._calls += len(inps)
        self._progress(min(self._calls, self._requests), self._requests)
        return super()._model_call(inps, *args, **kwargs)


def task_objects(splits: Mapping[str, datasets.DatasetDict]) -> dict[str, Any]:
    """lm-eval's own task of each name, reading "train" and "evaluate" of `splits` in place of its hub data.

    Raises ValueError for a name that lm-eval does not define.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns at length about the custom data set
    known = task_folders()
    if missing := sorted(set(splits) - set(known)):
        raise ValueError(f"lm-eval defines no task named {', '.join(missing)}")
    manager = TaskManager(include_defaults=False, include_path=sorted({known[name] for name in splits}))
    members = [
        {
            "task": name,
            "custom_dataset": lambda data=data, **_: data,
            "training_split": "train",
            "validation_split": None,
            "test_split": "evaluate",
        }
        for name, data in splits.items()
    ]
    datasets.disable_progress_bars()
    return manager.load([{"group": "suite", "task": members}])["tasks"]


def task_folders() -> dict[str, str]:
    """Every task lm-eval defines -> the folder of its file.

    Reading its thousands of files takes ten seconds, so the list is kept in the cache for the installed version.
    """
    root = Path(lm_eval.tasks.__file__).parent
    kept = assets.cache() / f"lm-eval-{importlib.metadata.version('lm_eval')}-tasks.json"
    if kept.is_file():
        found = json.loads(kept.read_text())
    else:
        index = TaskManager().task_index
        paths = {name: entry.yaml_path for name, entry in index.items() if entry.yaml_path is not None}
        found = {name: str(path.parent.relative_to(root)) for name, path in paths.items() if path.is_relative_to(root)}
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, no more
            kept.parent.mkdir(parents=True, exist_ok=True)
            draft = kept.with_suffix(f".{os.getpid()}.part")
            draft.write_text(json.dumps(found))
            draft.replace(kept)
    return {name: str(root / folder) for name, folder in found.items()}


def examples(task: Any, docs: list[Doc]) -> list[tuple[str, str]]:
    """(context, continuation) of each document: the request that lm-eval would score as the right answer.

    docs: as `training_docs(task)` yields them. Raises ValueError for a document without a right answer.
    """
    pairs = []
    for doc in docs:
        requests = task.construct_requests(doc=doc, ctx=task.fewshot_context(doc, num_fewshot=0), metadata=(None, 0, 1))
        if not isinstance(requests, list):  # generate_until: one request, the target follows the context
            target = task.doc_to_target(doc)
            pairs.append((requests.args[0], task.config.target_delimiter + str(target)))
            continue
        gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
        gold = gold[0] if isinstance(gold, list) else gold
        gold = task.doc_to_choice(doc).index(gold) if isinstance(gold, str) else gold
        if not 0 <= gold < len(requests):
            raise ValueError(f"task {task.config.task}: no right answer in document {doc}")
        pairs.append(requests[gold].args)
    return pairs


def training_docs(task: Any) -> list[Doc]:
    """The training documents as the task's own processing leaves them."""
    return list(task.training_docs())


def evaluate(
    model: torch.nn.Module,
    tokenizer: Any,
    tasks: Mapping[str, Any],
    headline: Mapping[str, str],
    batch_size: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, Score], int]:
    """Score the model on every task; also returns the tokens that went through it.

    The model's training mode is restored, and no random generator is touched.
    """
    training = model.training
    lm = Wrapped(model, tokenizer, batch_size, progress)
    try:
        output = lm_evaluate(lm, {"tasks": dict(tasks), "groups": {}}, bootstrap_iters=100)
    finally:
        model.train(training)
    assert output is not None  # None only on the other ranks of a distributed run
    return {task: score(headline[task], output["results"][task], output["samples"][task]) for task in tasks}, lm.tokens


def score(metric: str, results: Mapping[str, Any], samples: list[Mapping[str, Any]]) -> Score:
    """lm-eval's result of one task, whose keys read "metric,filter", as a Score. Raises ValueError without `metric`."""
    values = {key.split(",")[0]: value for key, value in results.items() if "," in key}
    metrics = {key: float(value) for key, value in values.items() if _is_number(value)}
    if metric not in metrics:
        raise ValueError(f"metric {metric!r} is not reported; reported: {', '.join(sorted(metrics))}")
    repeats: Counter[str] = Counter()
    documents = []
    for sample in samples:  # a data set may hold one document twice: the second gets a suffix
        short = sample["doc_hash"][:12]
        repeats[short] += 1
        documents.append(short if repeats[short] == 1 else f"{short}.{repeats[short]}")
    return Score(
        metric=metric,
        value=metrics[metric],
        stderr=metrics.get(f"{metric}_stderr"),
        count=len(samples),
        all_metrics=metrics,
        documents=tuple(documents),
        outcomes=tuple(float(sample[metric]) for sample in samples),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
