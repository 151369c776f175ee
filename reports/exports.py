"""Records as files of other programs: lm-evaluation-harness's own results, and the schema of Every Eval Ever.

    python -m reports export --what lm-eval --to DIR
    python -m reports export --what every-eval-ever --to DIR

A finished record with scores becomes `DIR/KEY/results_TIME.json` with `samples_TASK_TIME.jsonl` beside it, as
lm-eval's `EvaluationTracker` writes them (lm_eval/loggers/evaluation_tracker.py), or one file below `DIR/data`, as the
datastore of Every Eval Ever has them (package `every-eval-ever`, schemas/eval.schema.json). A record holds no prompts:
what would need them (`doc`, `arguments`, samples of Every Eval Ever) is empty or left out, and never made up.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from results.files import write_whole
from results.record import ACCURACIES, Record, Score

Json = dict[str, Any]
SCHEMA_VERSION = "0.3.0"  # of Every Eval Ever
FILTER = "none"  # of lm-eval, where a metric's own is not on record
LIBRARY = "lm_eval"
EMBEDDED = ("HuggingFaceTB", "smollm2-135m")  # who made the embedded model
LOCAL = "local"  # whose models are folders, or have random weights


def lm_eval(record: Record, to: Path) -> list[Path]:
    """Write a record as lm-eval's results and samples; the files written."""
    time = _time(record)
    name = time.isoformat().replace(":", "-")
    scores = _scores(record)
    samples = {task: _samples(score) for task, score in scores.items()}
    folder = to / _safe(record.key)
    files = {folder / f"results_{name}.json": json.dumps(_results(record, time), indent=2, ensure_ascii=False)}
    for task, rows in samples.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        files[folder / f"samples_{_safe(task)}_{name}.jsonl"] = text
    return _written(files)


def every_eval_ever(record: Record, to: Path) -> list[Path]:
    """Write a record as one file of the datastore of Every Eval Ever; the file written."""
    identifier = _model_id(record)
    stamp = str(_time(record).timestamp())
    versions = _versions(record)
    told: Json = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"{record.spec.suite}/{identifier.replace('/', '_')}/{record.key}",
        "evaluation_timestamp": stamp,
        "retrieved_timestamp": stamp,
        "source_metadata": {
            "source_name": "smoe-bench",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "third_party" if record.contributed else "first_party",
            "additional_details": {"record": record.key, "commit": str(record.environment.get("git_commit"))},
        },
        "eval_library": {"name": LIBRARY, "version": versions.get(LIBRARY, "unknown")},
        "model_info": {
            "name": f"{record.spec.model} with {record.spec.method}",
            "id": identifier,
            "inference_engine": {"name": "transformers", "version": versions.get("transformers", "unknown")},
            "additional_details": {
                "deployment_type": "self_deployed",
                "model_availability": "open_weights" if record.spec.model == EMBEDDED[1] else "unknown",
                **_texts(record.spec.to_json()),
            },
        },
        "evaluation_results": [_evaluation(record, task, score) for task, score in _scores(record).items()],
    }
    number = uuid.UUID(bytes=hashlib.sha256(record.key.encode()).digest()[:16], version=4)  # the same every time
    organisation, _, model = identifier.partition("/")
    file = to / "data" / _safe(record.spec.suite) / _safe(organisation) / _safe(model) / f"{number}.json"
    return _written({file: json.dumps(told, indent=2, ensure_ascii=False)})


FOLDERS: Mapping[str, Callable[[Record, Path], list[Path]]] = {"lm-eval": lm_eval, "every-eval-ever": every_eval_ever}


def write(what: str, records: Iterable[Record], to: Path) -> list[Path]:
    """Write all finished records that have scores into a folder, and return the files.

    what: a name of `FOLDERS`. Raises ValueError where no record has scores, or `to` is a file.
    """
    if to.exists() and not to.is_dir():
        raise ValueError(f"{to} is a file: --what {what} writes a folder, so give one to --to")
    scored = [record for record in records if record.status == "done" and record.scores]
    if not scored:
        raise ValueError("no finished record with scores is there; python -m benchmarks.run makes some")
    return [file for record in scored for file in FOLDERS[what](record, to)]


def _results(record: Record, time: datetime) -> Json:
    spec, scores, versions = record.spec, _scores(record), _versions(record)
    data: Mapping[str, Any] = record.data
    return {
        "results": {task: _metrics(task, score) for task, score in scores.items()},
        "group_subtasks": {task: [] for task in scores},
        "configs": {
            task: {"task": task, "num_fewshot": 0, "metadata": {"version": data.get(task, {}).get("task_version")}}
            for task in scores
        },
        "versions": {task: data.get(task, {}).get("task_version") for task in scores},
        "n-shot": dict.fromkeys(scores, 0),
        "higher_is_better": {task: {score.metric: score.direction == "higher"} for task, score in scores.items()},
        "n-samples": {task: {"original": score.count, "effective": score.count} for task, score in scores.items()},
        "config": {
            "model": "hf",
            "model_args": f"pretrained={spec.model},dtype={spec.dtype}",
            "batch_size": spec.evaluation_batch_size,
            "device": spec.device,
            "limit": spec.evaluation_limit,
            "random_seed": spec.seed,
            "adapter": spec.to_json(),
        },
        "git_hash": record.environment.get("git_commit"),
        "date": time.timestamp(),
        "transformers_version": versions.get("transformers"),
        "lm_eval_version": versions.get(LIBRARY),
        "task_hashes": {task: _digest("".join(score.documents)) for task, score in scores.items()},
        "model_source": "hf",
        "model_name": record.key,
        "model_name_sanitized": record.key,
        "chat_template": None,
        "system_instruction": None,
        "total_evaluation_time_seconds": str(record.costs["evaluate"].wall_seconds)
        if "evaluate" in record.costs
        else None,
    }


def _metrics(task: str, score: Score) -> Json:
    named: Json = {score.metric: score.value, **score.all_metrics}
    if score.stderr is not None:
        named[f"{score.metric}_stderr"] = score.stderr
    return {"alias": task, "sample_len": score.count, **{f"{name},{FILTER}": value for name, value in named.items()}}


def _samples(score: Score) -> list[Json]:
    rows = []
    for i, (document, outcome) in enumerate(zip(score.documents, score.outcomes, strict=True)):
        answers: list[Any] = []
        if score.loglikelihoods is not None:
            # lm-eval writes (log-likelihood, whether it is what would be decoded); the second is not on record
            answers = [[str(value), None] for value in score.loglikelihoods[i]]
        elif score.answers is not None:
            answers = [score.answers[i]]
        gold = None if score.gold is None else score.gold[i]
        rows.append(
            {
                "doc_id": i,
                "doc": {},
                "target": None if gold is None else str(gold),
                "arguments": {},
                "resps": [[answer] for answer in answers],
                "filtered_resps": answers,
                "filter": FILTER,
                "metrics": [score.metric],
                "doc_hash": document,
                score.metric: outcome,
            }
        )
    return rows


def _evaluation(record: Record, task: str, score: Score) -> Json:
    uncertainty: Json = {"num_samples": score.count}
    if score.stderr is not None:
        uncertainty["standard_error"] = {"value": score.stderr, "method": "analytic"}
    metric: Json = {
        "metric_id": score.metric,
        "metric_name": score.metric,
        "lower_is_better": score.direction == "lower",
        "score_type": "continuous",
    }
    if score.metric in ACCURACIES:
        metric |= {"metric_kind": "accuracy", "metric_unit": "proportion", "min_score": 0.0, "max_score": 1.0}
    return {
        "evaluation_result_id": f"{task}/{score.metric}",
        "evaluation_name": task,
        "source_data": {
            "dataset_name": task,
            "source_type": "other",
            "additional_details": _texts({"source": record.spec.source, "revisions": record.spec.revisions}),
        },
        "metric_config": metric,
        "score_details": {"score": score.value, "details": _texts(score.all_metrics), "uncertainty": uncertainty},
    }


def _model_id(record: Record) -> str:
    """Return ORGANISATION/NAME of the model, with the method in the name: the adapter is what was scored."""
    organisation, _, name = record.spec.model.rstrip("/").rpartition("/")
    if name == EMBEDDED[1] and not organisation:
        organisation = EMBEDDED[0]
    owner = organisation if organisation and "/" not in organisation else LOCAL
    return f"{owner}/{name}--{record.spec.method}--s{record.spec.seed}".replace(":", "-")


def _scores(record: Record) -> Mapping[str, Score]:
    return record.scores or {}


def _time(record: Record) -> datetime:
    """Return when the job was made. Raises ValueError for a record that does not say it."""
    stamp = record.environment.get("timestamp")
    if not isinstance(stamp, str):
        raise ValueError(f"record {record.key} does not say when it was made (environment.timestamp)")
    return datetime.fromisoformat(stamp)


def _versions(record: Record) -> Mapping[str, str]:
    found = record.environment.get("versions")
    return {k: v for k, v in found.items() if isinstance(v, str)} if isinstance(found, Mapping) else {}


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Make every value a text, as the schema wants further details; what is not known is left out."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
        if value is not None
    }


def _safe(name: str) -> str:
    """Make a name of a record, which may come from anywhere, one part of a path."""
    return re.sub(r"[^\w.-]", "-", name).lstrip(".") or "-"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _written(files: Mapping[Path, str]) -> list[Path]:
    for file, text in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text)
    return [*files]
