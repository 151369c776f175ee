"""`--data`: files of one's own become a task, and what was found in them is said before the first job."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import datasets
from pydantic import Field
from pydantic.dataclasses import dataclass

from baselines.fields import CHECKED
from benchmarks.data import sources, tasks
from benchmarks.data.own.fields import Fields
from benchmarks.data.own.task import OwnTask, make
from benchmarks.models import load as models
from results import RunSpec


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class OwnData:
    """Files of documents, and the fields in them, as the command line names them."""

    data: Annotated[
        Path | None,
        Field(description="Your documents to train on: JSONL, CSV, Parquet, or a folder with train.* and test.*."),
    ] = None
    test: Annotated[Path | None, Field(description="Those to evaluate on. [a fifth of --data]")] = None
    text: Annotated[
        str | None, Field(description='Field with the text, or a text with fields in it: "{{title}}: {{body}}".')
    ] = None
    choices: Annotated[
        str | None, Field(description="Field with a list, several fields (a,b,c), or labels (yes,no). [the answers]")
    ] = None
    answer: Annotated[
        str | None, Field(description="Field with the right choice: its text, its letter or its number.")
    ] = None


NAMES = tuple(field.name for field in dataclasses.fields(OwnData))


def made(asked: OwnData) -> OwnTask | None:
    """Make the task of the files, or None where none are named. Raises ValueError naming file, line and the way out."""
    if asked.data is None:
        if named := [f"--{name}" for name in NAMES if getattr(asked, name) is not None]:
            raise ValueError(f"{', '.join(named)}: of which file? name it with --data, as in --data train.jsonl")
        return None
    if asked.text is None or asked.answer is None:
        raise ValueError(
            f"--data {asked.data}: say which fields to read with --text and --answer (and --choices), as in "
            "--text question --choices options --answer label"
        )
    return make(asked.data, asked.test, Fields(asked.text, asked.choices, asked.answer))


def asked_with(request: Mapping[str, Any], task: OwnTask, place: Path) -> dict[str, Any]:
    """Return the request with the task in it, and let this process and those it starts find it in `place`.

    Parameters are matched where nothing else was asked for and no method is named with settings of its own.
    """
    os.environ[tasks.OWN] = os.pathsep.join(filter(None, (os.environ.get(tasks.OWN), str(task.write(place)))))
    match = request["match"] or ("none" if ":" in (request["methods"] or "") else "params")
    return {**request, "tasks": ",".join(filter(None, (task.name, request["tasks"]))), "match": match}


def told(task: OwnTask, spec: RunSpec) -> list[str]:
    """Say in lines what was found, what of it is read, and the first prompt as it is trained and as it is asked."""
    datasets.disable_progress_bars()
    objects = tasks.task_objects(
        dict(sources.splits(spec.source, spec.tasks, spec.split, spec.revisions)), spec.protocol
    )
    made = objects[task.name]
    train, evaluate = list(made.training_docs()), list(made.test_docs())
    if not train or not evaluate:
        raise ValueError(f"task {task.name}: no document is left")
    pairs = tasks.training_pairs(made, train)
    tokenizer = models.load_tokenizer(
        spec.model, models.skeleton(spec.model, spec.trust_remote_code), spec.trust_remote_code
    )
    lengths = [len(tokenizer(context + answer)["input_ids"]) for context, answer in pairs]
    long = sum(length > spec.max_length for length in lengths)
    asked = [request.args for request in tasks.task_requests(made, evaluate[0])]
    scored = min(spec.evaluation_limit or len(evaluate), len(evaluate))
    drawn = min(spec.train_documents or len(train), len(train))
    return [
        f"your data: {task.name}",
        *(f"  {line}" for line in task.summary()),
        f"  tokens of a document to train on: {statistics.median_low(lengths):,} (median), {max(lengths):,} (longest)"
        + (f"; {long:,} are longer than --max-length {spec.max_length} and lose their beginning" if long else ""),
        f"  this run trains on {drawn:,} documents of {len(train):,}"
        + (" (over all tasks)" if len(spec.tasks) > 1 else "")
        + f" and evaluates on {scored:,} of {len(evaluate):,}"
        + ("; all: --profile full" if drawn < len(train) or scored < len(evaluate) else ""),
        f"  parameters: {'matched over the methods (--match none: not)' if spec.match == 'params' else 'not matched'}",
        f"  first prompt as trained: {json.dumps(pairs[0][0], ensure_ascii=False)}",
        f"    answer learnt: {json.dumps(pairs[0][1], ensure_ascii=False)}",
        f"  first prompt as asked: {json.dumps(asked[0][0], ensure_ascii=False)}",
        f"    answers scored: {json.dumps([answer for _, answer in asked], ensure_ascii=False)}",
    ]
