"""The two documents of the suite: `RunSpec`, everything asked, and `Record`, everything measured.

A spec is fully resolved before a job starts, so its hash names the job: a key that has a finished record is never
run again. What was not measured is `None`, never 0 and never left out.

History of the record's format
    1   first version
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 1
PHASES = ("load", "allocate", "train", "evaluate")
COST = "cost"  # the protocol of a record without scores: only what the phases cost was asked

# The reader of every earlier version: schema n -> function that turns its body into that of schema n + 1.
UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


class RecordError(ValueError):
    """A record or spec on disk is not what this version can read; the message says which field and why."""


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """Everything that was asked of one job, fully resolved. Two equal specs mean the same experiment."""

    suite: str  # name in benchmarks/suites
    tasks: tuple[str, ...]  # lm-eval task names, in the suite's order
    method: str  # name in baselines
    hyperparameters: Mapping[str, Any]  # every field of the method, defaults written out
    model: str  # "smollm2-135m", "tiny", "random:<name>", a hub id or a folder
    source: str  # "embedded" | "hub" | "synthetic"
    # "loglik" | "generative" | "lm-eval": answers written as lm-eval's own tasks ask for them | "cost": no score
    protocol: str
    mixture: str  # share of each task in training: "proportional" | "equal" | "temperature:<T>"
    seed: int  # adapter initialisation, data order, dropout
    data_seed: int  # which training documents are drawn; the same for every seed of a comparison
    train_documents: int | None  # over all tasks; None: every one there is
    epochs: float  # passes over those documents; 0 trains nothing
    batch_size: int  # documents in an optimiser step
    learning_rate: float  # peak; linear warm-up, then linear decay to 0
    warmup_fraction: float  # of all steps
    weight_decay: float
    max_length: int  # tokens of context + continuation; cut from the left, never into the continuation
    probe_documents: int  # documents a task that allocators may read
    evaluation_limit: int | None  # documents a task; None: all
    evaluation_batch_size: int
    dtype: str  # "float32" | "bfloat16"
    device: str  # "cpu" | "cuda"
    # Fields below have a default because they came later: at their default they are left out of the key's hash, so the
    # keys of earlier records stay what they were.
    match: str = "none"  # "params" | "experts": what was made equal over the methods of the run
    split: str = "evaluation"  # what is scored; "held-out": training documents kept from training, to choose a rate on
    adapters: str = "multi"  # one adapter trained on all tasks; "single": one for each task, on its own documents
    quantize: str = "none"  # "4bit" | "8bit": the frozen base, by bitsandbytes
    allocator: str = "heap"  # "mapped": every large block of memory has pages of its own, so that peaks repeat (CPU)
    trust_remote_code: bool = False  # whether the model's repository may run code of its own
    revisions: Mapping[str, str] | None = None  # of every data set read from the hub, by its path: commit, or file hash
    own_tasks: str | None = None  # hash over the files of one's own lm-eval tasks
    compiled: bool = False  # whether training steps go through torch.compile
    # The one of `tasks` that this job's adapter is trained and scored on, where each has its own; None: all of them.
    # Which documents those are is decided over all the tasks; results/adapters.py makes one row of the jobs.
    task: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tuple(self.tasks))
        object.__setattr__(self, "hyperparameters", dict(self.hyperparameters))

    @property
    def key(self) -> str:
        """`suite--model--method--s0--<8 hex of a hash over all fields>`; a valid file name."""
        later = {f.name: f.default for f in dataclasses.fields(self) if f.default is not dataclasses.MISSING}
        asked = {name: value for name, value in self.to_json().items() if name not in later or value != later[name]}
        text = json.dumps(asked, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        model = "".join(c if c.isalnum() or c in "._-" else "-" for c in self.model.rstrip("/").split("/")[-1])
        return f"{self.suite}--{model}--{self.method}--s{self.seed}--{digest}"

    @property
    def trained_tasks(self) -> tuple[str, ...]:
        """The tasks that the job's adapter is trained and scored on."""
        return self.tasks if self.task is None else (self.task,)

    @property
    def scored(self) -> bool:
        """Whether a finished record has scores."""
        return self.protocol != COST

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "tasks": list(self.tasks)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunSpec:
        return _build(cls, data, "spec")


@dataclass(frozen=True, kw_only=True)
class Score:
    """One task's result under one protocol; accuracies are fractions in [0, 1]."""

    metric: str  # the headline metric's name in lm-eval: "acc_norm" or "acc" or "exact_match"
    value: float
    stderr: float | None  # over documents
    count: int  # documents
    # Every metric the task reports, standard errors as "<metric>_stderr". Where answers are written, "unparseable" is
    # the share of them in which no answer was found.
    all_metrics: Mapping[str, float]
    documents: tuple[str, ...]  # 12 hex of each evaluation document's hash, in order
    outcomes: tuple[float, ...]  # headline metric of each document, same order

    def __post_init__(self) -> None:
        object.__setattr__(self, "documents", tuple(self.documents))
        object.__setattr__(self, "outcomes", tuple(self.outcomes))
        if not len(self.documents) == len(self.outcomes) == self.count:
            raise RecordError(
                f"score: count {self.count}, {len(self.documents)} documents, {len(self.outcomes)} outcomes"
            )


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Counts of scalar parameters; `adapter_bytes` is the size of the saved adapter file."""

    total: int  # base model and adapter
    trainable: int  # while training starts
    experts: int | None  # in expert matrices (A and B); None for a method without experts
    router: int | None
    active_per_token: int | None  # adapter parameters that a token meets (all of them under soft routing)
    after_pruning: int | None  # trainable that remain in use at the end; AdaLoRA prunes, most others do not
    adapter_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one phase cost. Peaks are of the whole process or device during the phase, not increments."""

    wall_seconds: float
    tokens: int | None  # tokens that went through the model, padding left out
    peak_allocated_bytes: int | None  # CUDA allocator
    peak_reserved_bytes: int | None  # CUDA allocator
    # The process's VmHWM, since commit bf20e1b less the resident pages of shared libraries (benchmarks/jobs/meter.py).
    peak_resident_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Record:
    """Everything that was measured in one job. A failed job has status "failed", an `error`, and what it had so far."""

    spec: RunSpec
    status: str  # "done" | "failed"
    error: str | None  # last line of the traceback and where, for a failed job
    scores: Mapping[str, Score] | None  # by task
    parameters: Parameters | None
    costs: Mapping[str, Cost]  # by phase, in the order of PHASES; a phase not reached is absent only when failed
    losses: tuple[float, ...] | None  # training loss of every step, without the method's penalty
    facts: Mapping[str, Any]  # what the method says of itself: "experts" per block, "sensitivity" per task and block
    data: Mapping[str, Any]  # per task: train and evaluate counts and hashes, truncated, share of the mixture
    environment: Mapping[str, Any]  # see results/environment.py
    schema: int = field(default=SCHEMA)

    def __post_init__(self) -> None:
        if self.losses is not None:
            object.__setattr__(self, "losses", tuple(self.losses))

    @property
    def key(self) -> str:
        return self.spec.key

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, the key written out first for readers of the file."""
        body = dataclasses.asdict(self)
        body["spec"] = self.spec.to_json()
        return {"key": self.key, "schema": body.pop("schema"), **body}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """Read a record of any known schema. Raises RecordError naming the field that is wrong."""
        if not isinstance(data, Mapping):
            raise RecordError("a record is a JSON object")
        body = upgraded(data)
        key = body.pop("key", None)
        body["spec"] = RunSpec.from_json(_object(body, "spec"))
        if body.get("scores") is not None:
            body["scores"] = {t: _build(Score, s, f"scores.{t}") for t, s in _object(body, "scores").items()}
        if body.get("parameters") is not None:
            body["parameters"] = _build(Parameters, _object(body, "parameters"), "parameters")
        body["costs"] = {p: _build(Cost, c, f"costs.{p}") for p, c in _object(body, "costs").items()}
        record = _build(cls, body, "record")
        if record.key != key:
            raise RecordError(f"key {key!r} does not belong to its spec (expected {record.key!r}): edited by hand?")
        if record.status not in ("done", "failed"):
            raise RecordError(f"status {record.status!r} is neither 'done' nor 'failed'")
        scored = set(record.spec.trained_tasks) if record.spec.scored else set()
        if record.status == "done" and (record.scores is None or set(record.scores) != scored):
            raise RecordError("a finished record has a score for every task of its spec")
        return record


def upgraded(data: Mapping[str, Any]) -> dict[str, Any]:
    """A record of any known schema as one of this version. Raises RecordError for an unknown schema."""
    body = dict(data)
    while (schema := body.get("schema")) != SCHEMA:
        if schema not in UPGRADES:
            known = ", ".join(map(str, sorted([*UPGRADES, SCHEMA])))
            raise RecordError(f"schema {schema!r} is not known (known: {known})")
        body = {**UPGRADES[schema](body), "schema": schema + 1}
    return body


def _object(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = data.get(name)
    if not isinstance(value, Mapping):
        raise RecordError(f"{name}: expected an object, found {type(value).__name__}")
    return value


def _build(cls: type, data: Mapping[str, Any], where: str) -> Any:
    """Construct dataclass `cls` from `data`, refusing unknown and missing fields by name.

    Only a RunSpec may lack fields, those that came later.
    """
    if not isinstance(data, Mapping):
        raise RecordError(f"{where}: expected an object, found {type(data).__name__}")
    names = {f.name for f in dataclasses.fields(cls)}
    if unknown := sorted(set(data) - names):
        raise RecordError(f"{where}: unknown fields {', '.join(unknown)}")
    later = {f.name for f in dataclasses.fields(cls) if cls is RunSpec and f.default is not dataclasses.MISSING}
    if missing := sorted(names - later - set(data)):
        raise RecordError(f"{where}: missing fields {', '.join(missing)}")
    return cls(**data)
