"""lm-evaluation-harness, called in process: the only import of lm-eval, whose keys become scores here.

Traps met on the way (lm-eval 0.4.13): the batch size must be set on the wrapper and never be "auto", since scores move
with it; with bf16 weights its log-softmax stays in bf16 unless told otherwise, and sums of such log-probabilities tie;
wrapping a model leaves it in evaluation mode; `bootstrap_iters=0` would turn every standard error into "N/A".
"""

from __future__ import annotations

import contextlib
import hashlib
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
from lm_eval.api.registry import DEFAULT_METRIC_REGISTRY
from lm_eval.evaluator import evaluate as lm_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from benchmarks.data.documents import Doc
from benchmarks.data.sources import OWN
from benchmarks.models import assets
from benchmarks.suite import PROTOCOLS
from results import Score
from results.files import write_whole
from results.names import unknown

TASKS = Path(__file__).parent.parent / "data" / "definitions" / "tasks"  # of this repository, which lm-eval lacks
NO_EXAMPLES = {"num_fewshot": 0, "fewshot_split": None, "fewshot_config": None}  # in prompts: models are trained here
INVALID = "[invalid]"  # what lm-eval's regex filter makes of an answer in which nothing matches


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
        self._calls, self._requests = 0, len(inputs)
        return super()._loglikelihood_tokens(requests, disable_tqdm=True, override_bs=override_bs)

    def _model_call(self, inps: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._calls += len(inps)
        self._progress(min(self._calls, self._requests), self._requests)
        return super()._model_call(inps, *args, **kwargs)

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        self._calls, self._requests = 0, len(requests)
        return super().generate_until(requests, disable_tqdm=True)

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **kwargs: Any) -> torch.Tensor:
        self._calls += len(context)
        self._progress(self._calls, self._requests)
        # A row ends where training ends an answer, whatever end the model's own generation settings name.
        output = super()._model_generate(context, max_length, stop, eos_token_id=self.eot_token_id, **kwargs)
        ended = output[:, context.shape[1] :] == self.eot_token_id
        written = (ended.cumsum(1) - ended.long() == 0).sum()  # up to the end token, which is one of them
        self.tokens += int(kwargs["attention_mask"].sum() + written) - len(context)  # the last ones were not read
        return output


def task_objects(splits: Mapping[str, datasets.DatasetDict], protocol: str = "loglik") -> dict[str, Any]:
    """The task of each name, reading "train" and "evaluate" of `splits` in place of hub data.

    The protocol's folder defines it, or lm-eval where that has no such file. Raises ValueError for a name that neither
    defines.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns at length about the custom data set
    known = folders() | {file.stem: str(file.parent) for file in (PROTOCOLS / protocol).glob("[!_]*.yaml")}
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
            **NO_EXAMPLES,
        }
        for name, data in splits.items()
    ]
    datasets.disable_progress_bars()
    return manager.load([{"group": "suite", "task": members}])["tasks"]


def folders() -> dict[str, str]:
    """Every task there is -> the folder of its file: lm-eval's, this repository's, and one's own.

    Raises ValueError for one's own task with a name that is taken.
    """
    known = task_folders() | {file.stem: str(TASKS) for file in TASKS.glob("[!_]*.yaml")}
    own = own_tasks()
    if taken := sorted(known.keys() & own.keys()):
        raise ValueError(f"{OWN}: {', '.join(taken)}: lm-eval or this repository has a task of that name")
    return known | own


def own_tasks() -> dict[str, str]:
    """Every task in the folders of `SMOE_TASKS` -> the folder of its file. Raises ValueError for a folder without."""
    found: dict[str, str] = {}
    for folder in filter(None, os.environ.get(OWN, "").split(os.pathsep)):
        index = TaskManager(include_defaults=False, include_path=folder).task_index
        here = {name: str(entry.yaml_path.parent) for name, entry in index.items() if entry.yaml_path is not None}
        if not here:
            raise ValueError(f"{OWN}: no task file (*.yaml) in {folder}")
        found |= here
    return found


def settings(name: str) -> dict[str, Any]:
    """What the task's file says, functions left as their names; "folder" is where it lies.

    Raises ValueError for a name that is unknown or stands for several tasks.
    """
    known = folders()
    if name not in known:
        raise unknown("task", name, known)
    entry = TaskManager(include_defaults=False, include_path=known[name]).task_index[name]
    said = entry.cfg or {}
    if "group" in said:
        raise ValueError(f"{name} is a group of tasks: name the tasks themselves")
    return {**said, "folder": known[name]}


def headline(settings: Mapping[str, Any]) -> str:
    """The metric of a task that goes into tables."""
    kind = settings.get("output_type", "generate_until")
    listed = [str(m["metric"]) for m in settings.get("metric_list") or ()] or DEFAULT_METRIC_REGISTRY[kind]
    names = [os.path.basename(name).split(".")[-1] for name in listed]  # a function's path stands for its name
    return next((name for name in ("acc_norm", "acc") if name in names), names[0])


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
            write_whole(kept, json.dumps(found))
    return {name: str(root / folder) for name, folder in found.items()}


def examples(task: Any, docs: list[Doc], end: str = "") -> list[tuple[str, str]]:
    """(context, continuation) of each document: the request that lm-eval would score as the right answer.

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
    """The training documents as the task's own processing leaves them."""
    return list(task.training_docs())


def prompt_hash(task: Any) -> str:
    """12 hex of a hash over every request of the evaluation documents: what is asked, to the letter."""
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
    scores = {}
    for name, task in tasks.items():
        written = task.OUTPUT_TYPE == "generate_until"
        scores[name] = score(headline[name], output["results"][name], output["samples"][name], written)
    return scores, lm.tokens


def score(metric: str, results: Mapping[str, Any], samples: list[Mapping[str, Any]], written: bool = False) -> Score:
    """lm-eval's result of one task, whose keys read "metric,filter", as a Score. Raises ValueError without `metric`.

    written: answers were generated; "unparseable" is then the share of those in which the filter found none.
    """
    # Of several readings of an answer, the first counts.
    first = samples[0].get("filter", "none") if samples else "none"
    samples = [sample for sample in samples if sample.get("filter", first) == first]
    values = {key.split(",")[0]: value for key, value in results.items() if key.endswith(f",{first}")}
    metrics = {key: float(value) for key, value in values.items() if _is_number(value)}
    if written:
        metrics["unparseable"] = sum(sample["filtered_resps"] == [INVALID] for sample in samples) / len(samples)
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
