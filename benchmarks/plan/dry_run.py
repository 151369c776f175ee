"""The dry run of a plan: what a job will read is made, tokenised and scored with made-up answers, before any job.

Every training example and every request of evaluation is built as the job will build it, and every document is scored
by its task's own code, so that what cannot be trained on or scored is refused while nothing has run, with task and
document named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.data import tasks
from benchmarks.data.documents import Doc
from benchmarks.data.examples import Example
from benchmarks.data.protocols import protocol
from benchmarks.plan import custom
from results import RunSpec

PROBED = (0.0, 1.0, 1.0)  # outcomes of which a metric has to give the mean


def documents(spec: RunSpec, tokenizer: Any, model: torch.nn.Module, evaluation: bool = True) -> dict[str, int]:
    """Count the training documents of each task that the job would read, having read all of them.

    model: the base, with or without weights. evaluation: whether the evaluation documents are looked at as well. Raises
    ValueError naming the task and the document.
    """
    objects, examples = protocol(spec.protocol).data(spec, tokenizer, {})
    rows = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator, union-attr]
    for task, drawn in examples.items():
        _check_training(spec, task, drawn, rows, tokenizer.model_max_length)
    if objects and evaluation:
        metrics = custom.suite_of(spec).metrics(spec.protocol)
        for name, task in objects.items():
            check_evaluation(task, metrics[name], tokenizer, rows)
    return {task: len(drawn) for task, drawn in examples.items()}


def _check_training(spec: RunSpec, task: str, drawn: Sequence[Example], rows: int, positions: int) -> None:
    if spec.epochs and not drawn:
        raise ValueError(
            f"task {task} gets none of the {spec.train_documents} training documents with --task-shares "
            f"{spec.task_shares}; ask for more with --train-documents, or for --task-shares equal"
        )
    if drawn and (longest := max(len(e.ids) for e in drawn)) > positions:
        raise ValueError(
            f"task {task}: a training document of {longest} tokens is longer than the {positions} positions of the "
            f"model; use --max-length {positions}"
        )
    if drawn and (largest := max(max(e.ids) for e in drawn)) >= rows:
        raise ValueError(_beyond(task, largest, rows))


def check_evaluation(task: Any, metric: str, tokenizer: Any, rows: int) -> None:
    """Raise ValueError where a task cannot be scored: by the mean of `metric` over documents, on what the model reads.

    rows: of the model's embedding.
    """
    _check_metric(task, metric)
    for doc in task.eval_docs:
        tasks.about(task, doc, lambda doc=doc: _check_document(task, doc, metric, tokenizer, rows))  # type: ignore[misc]


def _check_metric(task: Any, metric: str) -> None:
    name, reported = task.config.task, sorted(task.aggregation())
    if metric not in reported:
        raise ValueError(f"task {name}: metric {metric!r} is not reported; reported: {', '.join(reported)}")
    wanted = "the tables need one that is a mean over documents, higher for better, such as acc or exact_match"
    if not task.higher_is_better().get(metric, True):
        raise ValueError(f"task {name}: of metric {metric!r} lower is better; {wanted} (metric_list of its file)")
    try:
        mean = float(task.aggregation()[metric](list(PROBED)))
    except Exception:  # whatever it is made for
        mean = math.nan
    if not math.isclose(mean, sum(PROBED) / len(PROBED)):
        raise ValueError(
            f"task {name}: metric {metric!r} is computed over the whole set; {wanted} (metric_list of its file)"
        )


def _check_document(task: Any, doc: Doc, metric: str, tokenizer: Any, rows: int) -> None:
    requests = tasks.task_requests(task, doc)
    for request in requests:
        ids = tasks.request_tokens(task, tokenizer, request)
        if max(ids) >= rows:
            raise ValueError(_beyond(task.config.task, max(ids), rows))
    if tasks.is_written(task):
        room = tokenizer.model_max_length - int(requests[0].args[1].get("max_gen_toks", 256))
        if room <= 0:
            raise ValueError(
                f"max_gen_toks {requests[0].args[1]['max_gen_toks']} leaves no room for a prompt in the "
                f"{tokenizer.model_max_length} positions of the model (generation_kwargs of its file)"
            )
        results: list[Any] = [tasks.written_answers(task, doc)[0]]
    elif task.OUTPUT_TYPE == "multiple_choice":
        _check_choices(task, doc)
        results = [(-1.0 - i, i == 0) for i in range(len(requests))]
    else:
        results = [(-1.0, True)]
    _check_outcome(task.process_results(doc, results), metric)


def _check_choices(task: Any, doc: Doc) -> None:
    if task.multiple_input and not isinstance(task.doc_to_target(doc), str):
        raise ValueError(
            "the prompt is a number alone, which lm-eval takes for the index of a choice; write text beside it"
        )
    if not tasks.right_choices(task, doc):
        gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
        raise ValueError(
            f"the right answer {gold!r} is none of its {len(task.doc_to_choice(doc))} choices, by index from 0 or text"
        )


def _check_outcome(outcome: Mapping[str, Any], metric: str) -> None:
    value = outcome.get(metric)
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"metric {metric!r} is no number of one document, but {value!r}") from None
    if not 0 <= number <= 1:
        raise ValueError(f"metric {metric!r} is {number:g}, outside of 0 to 1")


def _beyond(task: str, token: int, rows: int) -> str:
    return (
        f"task {task}: the tokenizer makes token {token}, and the model has embeddings for {rows}; "
        "use the model's own tokenizer, or resize_token_embeddings"
    )
