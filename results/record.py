"""What was measured: `Record`, with what was asked of the job as its `spec` (results/spec.py).

What was not measured is `None`, never 0. Types and ranges are checked when an object is made, unknown fields are
refused, and no number is NaN or infinite; what no measurement gives is refused when a record is read or written.

History of the record's format
    1   first version; read by `UPGRADES`, kept under its stored keys, never taken for an answer to a new spec
    2   words (task_shares, malloc, adapters shared | per-task), documents with log-likelihoods, identity by content
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from results.private import private_text
from results.spec import SCHEMA, STRICT, Count, Items, RecordError, RunSpec, Seconds, validated

PHASES = ("load", "allocate", "train", "evaluate")  # that the reports show
START, PREPARE, DESCRIBE, SAVE = "start", "prepare", "describe", "save"
# Around them, so that all together are the job's wall-clock: from the start of the process to the job's first line;
# tasks, tokens, blocks; first step, routers, variants of the evaluation; the adapter's file. Absent in early records.
FURTHER_PHASES = (START, PREPARE, DESCRIBE, SAVE)
ACCURACIES = ("acc", "acc_norm", "acc_bytes", "exact_match", "em")  # in [0, 1], and the mean of their outcomes
MEAN_TOLERANCE = 1e-6
DIGITS = 4  # significant ones of sensitivities and of what routers did
_ROUNDED = ("sensitivity", "importance", "router")  # among the facts


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Score:
    """One task's result under one protocol; accuracies are fractions in [0, 1].

    What is known of each document stands in the order of `documents`; None for what a protocol does not give.
    """

    metric: str  # the headline metric's name in lm-eval: "acc_norm" or "acc" or "exact_match"
    value: float
    stderr: Annotated[float, Field(ge=0)] | None  # over documents
    count: Count  # documents
    # Every metric the task reports, standard errors as "<metric>_stderr". Where answers are written, "unparseable" is
    # the share of them in which no answer was found.
    all_metrics: Mapping[str, float]
    documents: Items[str]  # 12 hex of each evaluation document's hash, in order
    outcomes: Items[float]  # headline metric of each document
    direction: Literal["higher", "lower"] = "higher"  # which is better
    loglikelihoods: Items[Items[float]] | None = None  # of each choice, natural logarithm, 6 decimals
    choice_bytes: Items[Items[Count]] | None = None  # UTF-8 of each scored continuation without the target delimiter
    gold: Items[Count | None] | None = None  # index of the right choice; None where a document has none
    answers: Items[str | None] | None = None  # as written; a long one's beginning and a digest

    def __post_init__(self) -> None:
        if not len(self.documents) == len(self.outcomes) == self.count:
            raise ValueError(f"count {self.count}, {len(self.documents)} documents, {len(self.outcomes)} outcomes")
        for name in ("loglikelihoods", "choice_bytes", "gold", "answers"):
            values = getattr(self, name)
            if values is not None and len(values) != self.count:
                raise ValueError(f"{name}: {len(values)} for {self.count} documents")
        if self.loglikelihoods is not None:
            rounded = tuple(tuple(round(x, 6) for x in choices) for choices in self.loglikelihoods)
            object.__setattr__(self, "loglikelihoods", rounded)
            choices = [len(x) for x in self.loglikelihoods]
            if self.choice_bytes is not None and choices != [len(x) for x in self.choice_bytes]:
                raise ValueError("choice_bytes: another number of choices than loglikelihoods")
            if any(index is not None and index >= n for index, n in zip(self.gold or (), choices, strict=False)):
                raise ValueError("gold: beyond the choices")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Parameters:
    """Counts of scalar parameters; `adapter_bytes` is the size of the saved adapter file."""

    total: Count  # base model and adapter
    trainable: Count  # while training starts
    experts: Count | None  # in expert matrices (A and B); None for a method without experts
    router: Count | None
    active_per_token: Count | None  # adapter parameters that a token meets (all of them under soft routing)
    after_pruning: Count | None  # trainable that remain in use at the end; AdaLoRA prunes, most others do not
    adapter_bytes: Count | None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Cost:
    """What one phase cost. Peaks are of the whole process or device during the phase, not increments."""

    wall_seconds: Seconds
    tokens: Count | None  # tokens that went through the model, padding left out
    peak_allocated_bytes: Count | None  # CUDA allocator
    peak_reserved_bytes: Count | None  # CUDA allocator
    peak_resident_bytes: Count | None  # the process's VmHWM, as `meter` defines it
    meter: str | None = None  # name of the definition that the peaks follow; None: as benchmarks/jobs/meter.py had it
    ranks: Items[Cost] | None = None  # of each rank of a distributed job; None for one process


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Record:
    """Everything that was measured in one job. A failed job has status "failed", an `error`, and what it had so far."""

    spec: RunSpec
    status: Literal["done", "failed"]
    error: str | None  # last line of the traceback and where, for a failed job
    scores: Mapping[str, Score] | None  # by task
    parameters: Parameters | None
    costs: Mapping[str, Cost]  # by phase; one of PHASES that was not reached is absent only when failed
    losses: Items[float] | None  # training loss of every step, without the method's penalty
    facts: Mapping[str, Any]  # what the method says of itself: "experts" per block, "sensitivity" per task and block
    data: Mapping[str, Any]  # per task: train and evaluate counts and hashes, truncated, share of the mixture
    environment: Mapping[str, Any]  # see results/environment.py
    # Whole names of the blocks that the method was given to train, of which an allocator may leave some without an
    # expert (facts). None for a method that does not work by blocks, and in schema 1.
    trained_blocks: Items[str] | None = None
    first_step: Annotated[float, Field(ge=0)] | None = None  # rms change of the answers' logits by one step
    variants: Mapping[str, Mapping[str, Score]] | None = None  # evaluation "shuffled", "uniform": scores by task
    scorer: str | None = None  # which way of scoring was used
    made_from: Items[str] | None = None  # keys of the records whose adapters went into this one
    contributed: bool = False  # sent in by somebody else
    schema: Literal[1, 2] = field(default=SCHEMA)  # 1: read from a file of that version
    key: str = ""  # the spec's; of schema 1 the stored one

    def __post_init__(self) -> None:
        if self.schema == SCHEMA:  # also after `dataclasses.replace` of the spec
            object.__setattr__(self, "key", self.spec.key)
            object.__setattr__(self, "facts", _rounded_facts(self.facts))
            object.__setattr__(self, "error", None if self.error is None else private_text(self.error))

    @classmethod
    def failed(cls, spec: RunSpec, error: str, environment: Mapping[str, Any]) -> Record:
        """Make the record of a job that measured nothing yet."""
        return cls(
            spec=spec,
            status="failed",
            error=error,
            scores=None,
            parameters=None,
            costs={},
            losses=None,
            facts={},
            data={},
            environment=environment,
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types, the key first for readers of the file."""
        body = dataclasses.asdict(self)
        body["spec"] = self.spec.to_json()
        return {"key": body.pop("key"), "schema": body.pop("schema"), **body}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """Read a record of any known schema. Raises RecordError naming the field that is wrong."""
        if not isinstance(data, Mapping):
            raise RecordError("a record is a JSON object")
        record = validated(cls, upgraded(data))
        if record.key != data.get("key"):
            raise RecordError(
                f"key {data.get('key')!r} does not belong to its spec (expected {record.key!r}): edited by hand?"
            )
        record.check()
        return record

    def check(self) -> None:
        """Raise RecordError for what no measurement gives, naming the field: beyond the types, which always hold."""
        for name in ("facts", "data", "environment"):
            _require_finite(getattr(self, name), name)
        _require_finite(self.spec.hyperparameters, "spec.hyperparameters")
        if unknown := sorted(set(self.costs) - {*PHASES, *FURTHER_PHASES}):
            raise RecordError(f"costs: unknown phases {', '.join(unknown)}")
        scored = set(self.spec.trained_tasks) if self.spec.scored else set()
        if self.status == "done" and (self.scores is None or set(self.scores) != scored):
            raise RecordError("a finished record has a score for every task of its spec")
        for place, scores in {"scores": self.scores, **(self.variants or {})}.items():
            for task, score in (scores or {}).items():
                _check_score(score, f"{place}.{task}")


def upgraded(data: Mapping[str, Any]) -> dict[str, Any]:
    """Bring a record of any known schema into the fields of this one. Raises RecordError for an unknown schema."""
    schema = data.get("schema")
    if schema == SCHEMA:
        return dict(data)
    if not isinstance(schema, int) or schema not in UPGRADES:
        schemas = ", ".join(map(str, sorted([*UPGRADES, SCHEMA])))
        raise RecordError(f"schema {schema!r} is not known (known: {schemas})")
    try:
        return UPGRADES[schema](data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"not a record of schema {schema}: {error or type(error).__name__}") from error


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of one file of the store, from the classes."""
    body = TypeAdapter(Record).json_schema()
    body["properties"] |= {"schema": {"const": SCHEMA}, "digest": {"type": "string"}}  # digest: see results/store.py
    body["required"] = sorted({*body["required"], "key", "schema", "digest"})
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {**about, **body, "title": f"A record, schema {SCHEMA}"}


def _check_score(score: Score, place: str) -> None:
    if score.metric not in ACCURACIES:
        return
    for name, numbers in (("value", (score.value,)), ("outcomes", score.outcomes)):
        if not all(0 <= number <= 1 for number in numbers):
            raise RecordError(f"{place}.{name}: an accuracy lies between 0 and 1")
    if score.count and abs(math.fsum(score.outcomes) / score.count - score.value) > MEAN_TOLERANCE:
        raise RecordError(f"{place}.value: {score.value} is not the mean of its outcomes")


def _require_finite(value: Any, place: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise RecordError(f"{place}: {value} is no finite number")
    if isinstance(value, Mapping):
        for name, entry in value.items():
            _require_finite(entry, f"{place}.{name}")
    elif isinstance(value, list | tuple):
        for i, entry in enumerate(value):
            _require_finite(entry, f"{place}[{i}]")


def _rounded_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    rounded = {name: _rounded(value) if name in _ROUNDED else value for name, value in facts.items()}
    if isinstance(adapters := facts.get("adapters"), Mapping):
        rounded["adapters"] = {t: _rounded_facts(f) if isinstance(f, Mapping) else f for t, f in adapters.items()}
    return rounded


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {name: _rounded(entry) for name, entry in value.items()}
    return [_rounded(entry) for entry in value] if isinstance(value, list | tuple) else value


# The readers of earlier versions: a record's body in the fields of the newest. Such a record keeps its stored key, that
# of a hash over the words of its own time, and says its schema.
# Fields that came while schema 1 was in use: at these values they are left out of its key's hash.
_LATER_1 = {
    "match": "none", "split": "evaluation", "adapters": "multi", "quantize": "none", "allocator": "heap",
    "trust_remote_code": False, "revisions": None, "own_tasks": None, "compiled": False,
}  # fmt: skip
_WORDS_1 = {"mixture": "task_shares", "allocator": "malloc"}
_ADAPTERS_1 = {"multi": "shared", "single": "per-task"}


def key_1(spec: Mapping[str, Any]) -> str:
    """Compute the key that schema 1 gave a spec."""
    asked = {name: value for name, value in spec.items() if name not in _LATER_1 or value != _LATER_1[name]}
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:8]
    model = "".join(c if c.isalnum() or c in "._-" else "-" for c in spec["model"].rstrip("/").split("/")[-1])
    return f"{spec['suite']}--{model}--{spec['method']}--s{spec['seed']}--{digest}"


def from_1(body: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the words of the spec. Raises ValueError where the key is not that of the spec."""
    spec = body["spec"]
    if new := sorted(set(spec) & set(_WORDS_1.values())):
        raise ValueError(f"spec: unknown fields {', '.join(new)}")
    key = key_1(spec)
    if key != body.get("key"):
        raise ValueError(f"key {body.get('key')!r} does not belong to its spec (expected {key!r}): edited by hand?")
    words = {_WORDS_1.get(name, name): value for name, value in spec.items()}
    words["adapters"] = _ADAPTERS_1[words.get("adapters", "multi")]
    return {**body, "spec": words}


UPGRADES: dict[int, Callable[[Mapping[str, Any]], dict[str, Any]]] = {1: from_1}
