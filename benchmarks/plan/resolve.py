"""Options and profiles -> fully resolved RunSpecs. Everything that can be wrong with a request is found here."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from baselines.method import Method
from benchmarks import registry
from benchmarks.data import examples, sources, synthetic
from benchmarks.jobs.executors import ALLOCATORS
from benchmarks.jobs.train import check_compiler
from benchmarks.models import load as models
from benchmarks.plan import match, paper
from benchmarks.suite import Suite
from results import Record, RunSpec
from results.names import pick, unknown
from results.record import COST

ADAPTERS = ("multi", "single")  # one for all tasks, or one for each
SOURCE = sources.SOURCES[0]
MAIN = ("frozen", "lora", "molora", "adalora", "lora-smoe")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A size of run with a name; defaults mean the same on every machine."""

    train_documents: int | None
    evaluation_limit: int | None  # documents a task
    seeds: int
    models: tuple[str, ...] = (models.EMBEDDED,)
    source: str = SOURCE  # of its own models, as is the protocol; None: the suite's
    protocol: str | None = None
    studies: bool = False  # several sets of methods and sizes, see benchmarks/plan/paper.py


PROFILES: Mapping[str, Profile] = {
    "small": Profile(train_documents=320, evaluation_limit=16, seeds=1),
    "medium": Profile(train_documents=4000, evaluation_limit=200, seeds=1),
    "full": Profile(train_documents=None, evaluation_limit=None, seeds=3),
    "paper": Profile(
        train_documents=None,
        evaluation_limit=None,
        seeds=3,
        models=paper.MODELS,
        source="hub",
        protocol="generative",
        studies=True,
    ),  # fmt: skip
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asked for; None means the profile's or the suite's own value."""

    suite: str = "commonsense"
    tasks: str | None = None  # lm-eval tasks in place of a suite's
    methods: str | None = None
    model: str | None = None
    source: str | None = None
    revision: str | None = None  # commits of hub data sets
    protocol: str | None = None
    profile: str = "small"
    seeds: str | None = None
    train_documents: int | None = None
    limit: int | None = None
    epochs: float = 1.0
    batch_size: int = 8
    learning_rate: float = 5e-4
    warmup_fraction: float = 0.1
    weight_decay: float = 0.0
    max_length: int = 256  # as LLM-Adapters
    probe_documents: int = 8
    evaluation_batch_size: int = 16
    dtype: str = "bfloat16"
    device: str = "auto"
    mixture: str = "multi"  # one adapter on all tasks; "single": one for each
    shares: str | None = None  # of each task in training
    quantize: str = "none"
    allocator: str = "heap"
    compiled: bool = False
    trust_remote_code: bool = False
    match: str = "none"  # what is made equal over the methods: "params", "experts"


def resolve(request: Request) -> list[RunSpec]:
    """One spec for every method and seed, all seeds of a method together; one seed where nothing is trained.

    Raises ValueError for a bad request.
    """
    profile = pick("profile", request.profile, PROFILES)
    specs: dict[str, RunSpec] = {}
    own = request
    if request.model is None:
        own = replace(request, source=request.source or profile.source, protocol=request.protocol or profile.protocol)
    for model in (request.model,) if request.model is not None else profile.models:
        for part in _parts(own, model, profile):
            for spec in _resolve(part, model, profile):
                specs.setdefault(spec.key, spec)
    return list(specs.values())


def _parts(request: Request, model: str, profile: Profile) -> list[Request]:
    """The request itself, or one for each study of a profile that has several."""
    if not profile.studies:
        return [request]
    if request.methods is not None:
        raise ValueError(f"profile {request.profile!r} chooses the methods itself: leave --methods out")
    suite = _suite(request)
    models.check(model)
    layers = models.skeleton(model, request.trust_remote_code).config.num_hidden_layers
    documents = None if request.train_documents is None else request.train_documents // len(suite.tasks)
    return [replace(request, **change) for change in paper.studies(len(suite.tasks), layers, documents)]


def _resolve(request: Request, model: str, profile: Profile) -> list[RunSpec]:
    """The specs of one model and one choice of methods."""
    suite = _suite(request)
    models.check(model)
    source = (request.source or SOURCE) if suite.protocol != COST else synthetic.SOURCE
    if source != synthetic.SOURCE:
        sources.check(source, suite.tasks)
    protocol = request.protocol or suite.protocol
    if protocol not in suite.protocols:
        raise unknown(f"protocol of suite {suite.name}", protocol, suite.protocols)
    if request.dtype not in models.DTYPES:
        raise unknown("dtype", request.dtype, models.DTYPES)
    limit = request.limit if request.limit is not None else profile.evaluation_limit
    documents = request.train_documents if request.train_documents is not None else profile.train_documents
    _positive(request, "batch_size", "learning_rate", "max_length", "probe_documents", "evaluation_batch_size")
    for name, value in (("limit", limit), ("train_documents", documents)):
        if value is None and source == synthetic.SOURCE:
            raise ValueError(f"suite {suite.name} has no end of documents: give a {name}")
        if value is not None and value < 1:
            raise ValueError(f"{name} {value} must be at least 1")
    if documents is not None and documents < len(suite.tasks):
        raise ValueError(f"train_documents {documents} must be at least one for each of the {len(suite.tasks)} tasks")
    for name in ("epochs", "warmup_fraction", "weight_decay"):
        if not (math.isfinite(value := getattr(request, name)) and value >= 0):
            raise ValueError(f"{name} {value} must be 0 or more")
    if request.warmup_fraction > 1:
        raise ValueError(f"warmup_fraction {request.warmup_fraction} must be at most 1")
    if request.mixture not in ADAPTERS:
        raise unknown("mixture", request.mixture, ADAPTERS)
    shares = request.shares or suite.mixture
    examples.shares({"a": 1}, 0, shares)  # knows them, and refuses others by name
    device = _device(request.device)
    models.check_quantize(request.quantize, device)
    if request.compiled:
        check_compiler(device)
    if request.allocator not in ALLOCATORS:
        raise unknown("allocator", request.allocator, ALLOCATORS)
    if request.allocator != "heap" and device != "cpu":
        raise ValueError(f"allocator {request.allocator} is for a CPU; on {device} what is allocated is counted itself")
    match.check(request.match)
    methods = parse_methods(request.methods)
    if request.quantize != "none" and (base := [m.name for m in methods if m.trains_base]):
        raise ValueError(f"{', '.join(base)} trains the model's own weights, which --quantize freezes")
    if request.match != "none":
        shapes = match.shapes_of(models.skeleton(model, request.trust_remote_code))
        methods = match.sized(methods, request.match, shapes)
    revisions = sources.revisions(source, suite.tasks, parse_revisions(request.revision))
    own_tasks = sources.own_files(suite.tasks)
    return [
        RunSpec(
            suite=suite.name,
            tasks=suite.tasks,
            method=method.name,
            hyperparameters=_plain(dataclasses.asdict(method)),
            model=model,
            source=source,
            protocol=protocol,
            mixture=shares,
            seed=seed,
            data_seed=0,
            train_documents=documents,
            epochs=request.epochs,
            batch_size=request.batch_size,
            learning_rate=request.learning_rate,
            warmup_fraction=request.warmup_fraction,
            weight_decay=request.weight_decay,
            max_length=request.max_length,
            probe_documents=request.probe_documents,
            evaluation_limit=limit,
            evaluation_batch_size=request.evaluation_batch_size,
            dtype=request.dtype,
            device=device,
            match=request.match,
            adapters=request.mixture,
            quantize=request.quantize,
            allocator=request.allocator,
            compiled=request.compiled,
            trust_remote_code=request.trust_remote_code,
            revisions=revisions,
            own_tasks=own_tasks,
        )
        for method in methods
        for seed in parse_seeds(request.seeds, profile.seeds)[: None if method.trains else 1]
    ]


def _suite(request: Request) -> Suite:
    if request.tasks is None:
        return pick("suite", request.suite, registry.suites())
    from benchmarks.plan import custom  # lm-eval takes seconds to import, and only this needs it here

    return custom.suite(tuple(name.strip() for name in request.tasks.split(",")))


def parse_revisions(text: str | None) -> dict[str, str]:
    """Commits by data set of a text like "cais/mmlu=0123abc,nyu-mll/glue=4567def". Raises ValueError."""
    found = {}
    for item in text.split(",") if text is not None else ():
        path, _, commit = (part.strip() for part in item.partition("="))
        if not path or not commit:
            raise ValueError(f"revision {item!r}: expected DATASET=COMMIT, as in cais/mmlu=0123abc")
        found[path] = commit
    return found


def parse_methods(text: str | None) -> list[Method]:
    """Methods of a text like "lora:r=16:alpha=32,molora". Raises ValueError that says what is known."""
    found = []
    for item in text.split(",") if text is not None else MAIN:
        name, *settings = item.strip().split(":")
        cls = registry.method(name)
        fields = {f.name: hint for f, hint in _fields(cls)}
        values = {}
        for setting in settings:
            field, equals, value = setting.partition("=")
            if not equals:
                raise ValueError(f"{item!r}: expected NAME:FIELD=VALUE, found {setting!r}")
            if field not in fields:
                raise unknown(f"hyperparameter of {name}", field, fields)
            values[field] = _value(value, fields[field], f"{name}:{field}")
        found.append(cls(**values))
    if len(set(map(repr, found))) != len(found):
        raise ValueError(f"methods {text!r} names one twice")
    return found


def parse_seeds(text: str | None, count: int) -> list[int]:
    """Seeds of a text like "0,1,5" or "0-4"; the first `count` for None. Raises ValueError."""
    if text is None:
        return list(range(count))
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"seeds {text!r}: expected numbers like 0,1,2 or a range like 0-4")
        seeds += range(int(first), int(last if dash else first) + 1)
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds {text!r} must name at least one, each once")
    return seeds


def estimate_seconds(spec: RunSpec, records: Sequence[Record]) -> float | None:
    """How long the job should take, from finished ones of the same model, device, dtype and protocol; None: unknown.

    Time of training and evaluation is taken to grow with the documents, everything else to stay.
    """
    alike = [
        r
        for r in records
        if r.status == "done"
        and all(getattr(r.spec, name) == getattr(spec, name) for name in ("model", "device", "dtype", "protocol"))
        and _trains(r.spec.method) == _trains(spec.method)
    ]
    if not alike:
        return None
    last = max(alike, key=lambda r: (r.spec.method == spec.method, str(r.environment.get("timestamp"))))
    train = _ratio(spec.train_documents, last.spec.train_documents, last, "train_documents")
    evaluation = _ratio(
        spec.evaluation_limit, last.spec.evaluation_limit, last, "evaluation_documents", len(spec.tasks)
    )
    if train is None or evaluation is None:
        return None
    seconds = {phase: cost.wall_seconds for phase, cost in last.costs.items()}
    return (
        seconds.get("load", 0)
        + seconds.get("allocate", 0)
        + seconds.get("train", 0) * train * spec.epochs / (last.spec.epochs or 1)
        + seconds.get("evaluate", 0) * evaluation
    )


def _trains(method: str) -> bool:
    known = registry.methods().get(method)
    return known is None or known.trains


def _ratio(asked: int | None, had: int | None, last: Record, name: str, times: int = 1) -> float | None:
    """Documents asked over documents the earlier record had; None where everything is asked and it had a part."""
    if asked is None:
        return None if had is not None else 1.0
    return asked * times / (sum(d[name] for d in last.data.values()) or 1)


def _positive(request: Request, *names: str) -> None:
    for name in names:
        if not (math.isfinite(value := getattr(request, name)) and value > 0):
            raise ValueError(f"{name} {value} must be above 0")


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise unknown("device", name, ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' is not available here; use --device cpu")
    return name


def _fields(cls: type[Method]) -> list[tuple[dataclasses.Field, Any]]:
    hints = typing.get_type_hints(cls)
    return [(f, hints[f.name]) for f in dataclasses.fields(cls)]


def _value(text: str, hint: Any, where: str) -> Any:
    """Parse `text` as the field's type: int, float, bool, str, X | None, or tuple of str separated by "+"."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if text.lower() == "none" and type(None) in options:
        return None
    for option in options:
        if typing.get_origin(option) is tuple:
            return tuple(text.split("+"))
        if option is bool:
            if text.lower() in ("true", "false"):
                return text.lower() == "true"
        elif option in (int, float):
            try:
                number = option(text)
            except ValueError:
                continue
            if math.isfinite(number):
                return number
        elif option is str or typing.get_origin(option) is typing.Literal:
            return text
    names = " or ".join(getattr(o, "__name__", str(o)) for o in options)
    raise ValueError(f"{where}: {text!r} is not {names}")


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON would give it back, so that a spec read from disk equals the one that was written."""
    return json.loads(json.dumps(values))
