"""What is asked of one job: `RunSpec`; and how documents of the suite are declared and checked.

A spec is fully resolved before a job starts, so its hash names the job: a key that has a finished record is never
run again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from results.private import home_relative

LM_EVAL: Literal["lm-eval"] = "lm-eval"  # ways of scoring log-likelihoods
SHARED_PREFIX: Literal["shared-prefix"] = "shared-prefix"
COST = "cost"  # protocols of records without scores: only what the phases cost was asked,
SERVING = "serving"  # or what the trained model costs who uses it
SCHEMA: Literal[2] = 2  # of records and of the specs in them; its history is in results/record.py

T = TypeVar("T")
Items: TypeAlias = Annotated[tuple[T, ...], Field(strict=False)]  # a list is taken as well, as JSON has it
Count: TypeAlias = Annotated[int, Field(ge=0)]
Seconds: TypeAlias = Annotated[float, Field(ge=0)]
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class RecordError(ValueError):
    """A record or spec that this version cannot read or write; the message says which field and why."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RunSpec:
    """Everything that was asked of one job, fully resolved. Two equal specs mean the same experiment."""

    suite: str  # name in benchmarks/suites
    tasks: Items[str]  # lm-eval task names, in the suite's order
    method: str  # name in baselines
    hyperparameters: Mapping[str, Any]  # every field of the method, defaults written out
    model: str  # "smollm2-135m", "tiny", "random:<name>", a hub id or a folder (below the home folder: "~/...")
    source: str  # "embedded" | "hub" | "synthetic"
    # "loglik" | "generative" | "lm-eval": answers written as lm-eval's own tasks ask for them | "cost": no score
    protocol: str
    task_shares: str  # of each task in training: "proportional" | "equal" | "temperature:<T>"
    seed: int  # adapter initialisation, data order, dropout
    data_seed: int  # which training documents are drawn; the same for every seed of a comparison
    train_documents: Count | None  # over all tasks; None: every one there is
    epochs: float  # passes over those documents; 0 trains nothing
    batch_size: Count  # documents in an optimiser step
    learning_rate: float  # peak; linear warm-up, then linear decay to 0
    warmup_fraction: float  # of all steps
    weight_decay: float
    max_length: Count  # tokens of context + continuation; cut from the left, never into the continuation
    probe_documents: Count  # documents a task that allocators may read
    evaluation_limit: Count | None  # documents a task; None: all
    evaluation_batch_size: Count
    dtype: str  # "float32" | "bfloat16" | "float16"
    device: str  # "cpu" | "cuda" | "mps" | "xpu"
    # Fields below have a default because they came later or are seldom asked for: at their default they are left out
    # of the key's hash, so that a further field leaves the keys of earlier records what they were.
    match: str = "none"  # "params" | "experts": what was made equal over the methods of the run
    split: str = "evaluation"  # what is scored; "held-out": training documents kept from training, to choose a rate on
    # One adapter trained on all tasks; one for each task, on its own documents; those merged into one.
    adapters: Literal["shared", "per-task", "merged"] = "shared"
    quantize: str = "none"  # "4bit" | "8bit": the frozen base, by bitsandbytes
    malloc: str = "heap"  # "mapped": every large block of memory has pages of its own, so that peaks repeat (CPU)
    trust_remote_code: bool = False  # whether the model's repository may run code of its own
    revisions: Mapping[str, str] | None = None  # of every data set read from the hub, by its path: commit, or file hash
    own_tasks: str | None = None  # hash over the files of one's own lm-eval tasks
    compiled: bool = False  # whether training steps go through torch.compile
    micro_batch: Annotated[int, Field(ge=1)] | None = None  # documents of a step that go through the model at once
    # Who asks the model for log-likelihoods: lm-eval's own wrapper, or one pass a document (jobs/shared_prefix.py).
    scorer: Literal["lm-eval", "shared-prefix"] = LM_EVAL
    # Hash of the model's configuration, weights and tokeniser; of a hub model its commit; None for names defined here.
    model_content: str | None = None
    suite_version: str | None = None  # changes whenever the suite's numbers would
    targets: str | Items[str] | None = None  # target modules as given, before they were resolved to blocks
    method_content: str | None = None  # hash of the method's file where it lies outside of this repository
    probe_router: bool = False  # whether it is evaluated again with its routers changed (the record's variants)
    # The one of `tasks` that this job's adapter is trained and scored on, where each has its own; None: all of them.
    # Which documents those are is decided over all the tasks; results/adapters.py makes one row of the jobs.
    task: str | None = None
    gradient_checkpointing: bool = False  # whether training keeps layers' inputs alone and computes the rest again

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", home_relative(self.model))

    @property
    def key(self) -> str:
        """`suite--model--method--s0--<8 hex of a hash over all fields>`; a valid file name."""
        later = {f.name: f.default for f in dataclasses.fields(self) if f.default is not dataclasses.MISSING}
        asked = {name: value for name, value in self.to_json().items() if name not in later or value != later[name]}
        if self.model_content is not None:
            del asked["model"]  # where it lies
        text = json.dumps({"schema": SCHEMA, **asked}, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        model = "".join(c if c.isalnum() or c in "._-" else "-" for c in self.model_name)
        return f"{self.suite}--{model}--{self.method}--s{self.seed}--{digest}"

    @property
    def model_name(self) -> str:
        """The last part of the model's name, which is no identity: two folders may share it."""
        return self.model.rstrip("/").split("/")[-1]

    @property
    def model_identity(self) -> tuple[str, str | None]:
        """What makes two models one: their name where it is defined here, else their name's last part and content."""
        return (self.model if self.model_content is None else self.model_name), self.model_content

    @property
    def trained_tasks(self) -> tuple[str, ...]:
        """The tasks that the job's adapter is trained and scored on."""
        return self.tasks if self.task is None else (self.task,)

    @property
    def scored(self) -> bool:
        """Whether a finished record has scores."""
        return self.protocol not in (COST, SERVING)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        body = {**dataclasses.asdict(self), "tasks": list(self.tasks)}
        return {**body, "targets": list(self.targets) if isinstance(self.targets, tuple) else self.targets}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunSpec:
        """Read what `to_json` gave. Raises RecordError naming the field that is wrong."""
        return validated(cls, data)


def validated(cls: type[T], data: Mapping[str, Any]) -> T:
    """Make an object of a strict class from plain JSON types. Raises RecordError naming the field that is wrong."""
    try:
        # Through JSON, whose lists and objects are taken for tuples and classes while all else stays strict.
        return TypeAdapter(cls).validate_json(json.dumps(data, allow_nan=False))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"])) or cls.__name__
        value = f", found {first['input']!r:.50}" if first["type"].endswith("_type") else ""
        raise RecordError(f"{place}: {first['msg']}{value}") from error
    except (RecursionError, TypeError, ValueError) as error:  # of json.dumps
        raise RecordError(f"{cls.__name__}: {str(error).splitlines()[0]}") from error
