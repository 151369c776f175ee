"""May these records stand together, and what makes a row: the one answer for the gate, the reports and the cost laws.

Every field of a spec has one role. `IDENTITY` names another comparison, `ROW` makes another row of one, `SEEDS` repeat
a row, `AGREED` has to be equal within a comparison, and so does `TRAINED` wherever something was trained. What a
record says beside its spec (machine, versions, documents, metrics) has to agree as well. Rows are paired by seed:
which documents were drawn for training may differ between seeds, never between the records of one seed (`BY_SEED`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from results.environment import fingerprint
from results.names import place
from results.record import Record
from results.spec import RunSpec
from results.tuning import HELD_OUT

IDENTITY = ("suite", "model", "train_documents", "evaluation_limit", "match", "split")
ROW = ("method", "hyperparameters", "learning_rate", "probe_documents", "adapters", "method_content")
SEEDS = ("seed", "data_seed")
AGREED = (
    "device", "dtype", "protocol", "source", "revisions", "own_tasks", "malloc", "compiled", "quantize", "tasks",
    "evaluation_batch_size", "scorer", "model_content", "suite_version", "targets",
)  # fmt: skip
TRAINED = (
    "task_shares", "epochs", "batch_size", "micro_batch", "max_length", "weight_decay", "warmup_fraction",
    "gradient_checkpointing",
)  # fmt: skip
# How a model is loaded; which part of a row this is (results/adapters.py); what is evaluated beside the scores.
UNCOMPARED = ("trust_remote_code", "task", "probe_router")

UNPAIRED = ("tasks", "documents", "metrics")  # without these in common there is nothing to compare
BY_SEED = ("data_seed", "training_data", "held_out_training_data")  # fields that have to agree at each seed alone
COST_SIZE = (
    "train_documents",
    "batch_size",
    "micro_batch",
    "evaluation_limit",
    "suite_version",
)  # of cost records, whose other sizes are axes
_DRAWN = ("documents", "training_data")


def machine_fields(record: Record) -> dict[str, Any]:
    """Device, versions, protocol, source and threads: without these in common, neither scores nor seconds compare.

    Threads move memory, time and the last bits of every sum.
    """
    return {**fingerprint(record.environment, record.spec), "threads": record.environment.get("threads")}


def agreement_fields(record: Record) -> dict[str, Any]:
    """Return what has to be equal for two records to stand in one table, by the name used on the command line."""
    spec, scores = record.spec, record.scores or {}
    fields = machine_fields(record)
    fields["commit"] = record.environment.get("git_commit")
    fields.update({name: getattr(spec, name) for name in AGREED})
    fields["tasks"] = list(spec.tasks)
    fields["documents"] = short_hash([(task, scores[task].documents) for task in sorted(scores)])
    fields["metrics"] = {task: scores[task].metric for task in sorted(scores)}
    described = {task: entry for task, entry in record.data.items() if isinstance(entry, dict)}
    fields["task_versions"] = {task: entry.get("task_version") for task, entry in sorted(described.items())}
    if spec.epochs:
        fields.update({name: getattr(spec, name) for name in ("data_seed", *TRAINED)})
        hashes = [(task, entry.get("train_hash")) for task, entry in sorted(described.items())]
        fields["training_data"] = short_hash(hashes)
    if record.trained_blocks is not None:  # a method that trains no blocks has none to agree on
        fields["trained_blocks"] = blocks_as_text(record.trained_blocks)
    if spec.split == HELD_OUT:  # other documents on purpose; among themselves they have to agree as well
        fields.update({f"held_out_{name}": fields.pop(name) for name in _DRAWN if name in fields})
    return fields


def blocks_as_text(blocks: Sequence[str]) -> str:
    """Name a set of blocks: their number, their projections, and a hash over their whole names."""
    projections = ", ".join(sorted({place(block)[1] for block in blocks}))
    return f"{len(blocks)} blocks {short_hash(sorted(blocks))}: {projections}"


def agreement(records: Sequence[Record]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Return the fields that agree over the finished records, and those that do not with their values.

    Those of `BY_SEED` are compared among the records of each seed: rows are paired by seed.
    """
    values: dict[str, dict[str, Any]] = {}
    differing: dict[str, list[Any]] = {}
    at_seed: dict[tuple[str, int | None], dict[str, Any]] = {}
    for record in (r for r in records if r.status == "done"):
        for name, value in agreement_fields(record).items():
            values.setdefault(name, {})[as_text(value)] = value
            seed = record.spec.seed if name in BY_SEED else None
            alike = at_seed.setdefault((name, seed), {})
            alike[as_text(value)] = value
            if len(alike) > 1:
                differing[name] = list(values[name].values())
    shared = {name: next(iter(several.values())) for name, several in values.items() if len(several) == 1}
    return shared, differing


def paired_fields(record: Record) -> dict[str, Any]:
    """Return what has to be equal, beyond the spec, to compare one job measured twice: a name and value each.

    The commit is left out, since it is the question, and so is the training data, whose change is a finding.
    """
    fields = {name: value for name, value in machine_fields(record).items() if name not in AGREED}
    for task, score in (record.scores or {}).items():
        described = record.data.get(task) or {}
        documents = hashlib.sha256("".join(score.documents).encode()).hexdigest()[:12]
        fields[f"{task} task_version"] = described.get("task_version")
        fields[f"{task} metric"] = score.metric
        fields[f"{task} documents"] = f"{score.count}: {described.get('evaluation_hash')}, {documents}"
    return fields


def cost_fields(record: Record) -> dict[str, Any]:
    """Return what has to be equal for the seconds and bytes of two cost records to follow one law."""
    return {**machine_fields(record), **{name: getattr(record.spec, name) for name in COST_SIZE}}


def repeat_key(spec: RunSpec) -> str:
    """Everything asked but the seeds, as text: what the repeats of one row have in common."""
    return as_text(_without(spec, SEEDS))


def row_key(spec: RunSpec) -> str:
    """Return what makes a row within one comparison, as text."""
    return as_text([getattr(spec, name) for name in ROW])


def comparison_key(spec: RunSpec) -> str:
    """Everything that the methods of one comparison share, as text; adapters trained in another way are not shared."""
    return as_text(_without(spec, {*SEEDS, *ROW} - {"adapters"}))


def row_settings(spec: RunSpec, every: bool = False) -> dict[str, Any]:
    """Return the settings of a row by name, hyperparameters included; every: all other fields but the seeds, too."""
    names = spec.to_json().keys() if every else ROW
    settings = {name: getattr(spec, name) for name in names if name not in ("method", "hyperparameters", *SEEDS)}
    if spec.method_content is None:
        settings.pop("method_content", None)
    return {**settings, **spec.hyperparameters} if every else {**spec.hyperparameters, **settings}


def row_labels(
    specs: Sequence[RunSpec], every: bool = False, always: Callable[[RunSpec], Collection[str]] = lambda spec: ()
) -> list[str]:
    """Return the method's name of each row, followed by the settings that tell it from other rows of the method.

    every: all fields may tell rows apart, not only those of `ROW`. always: names of settings that are shown anyway.
    """
    settings = [row_settings(spec, every) for spec in specs]
    labels = []
    for spec, mine in zip(specs, settings, strict=True):
        others = [o for o, s in zip(settings, specs, strict=True) if s.method == spec.method]
        telling = {name for name in set().union(*others) if len({as_text(o.get(name)) for o in others}) > 1}
        shown = sorted((telling | set(always(spec))) & mine.keys())
        detail = ", ".join(f"{name}={as_text(mine[name])}" for name in shown)
        labels.append(f"{spec.method} ({detail})" if detail else spec.method)
    return labels


def as_text(value: Any) -> str:
    """Return a text as it is, anything else as JSON with sorted keys."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def short_hash(value: Any) -> str:
    """12 hex digits over the value's JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _without(spec: RunSpec, names: Collection[str]) -> Mapping[str, Any]:
    """Return the fields but for `names`; of a model that is known by its content, where it lies is left out."""
    fields = {**spec.to_json(), "model": spec.model_identity[0]}
    return {name: value for name, value in fields.items() if name not in names}
