"""Request -> fully resolved RunSpecs. What the fields of a request cannot tell by themselves is refused here."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from baselines.method import Method
from benchmarks import registry
from benchmarks.data import examples, sources
from benchmarks.data.protocols import protocol
from benchmarks.models import identity
from benchmarks.models import load as models
from benchmarks.plan import blocks, custom, generic, match
from benchmarks.plan.device import check_compiler, device
from benchmarks.plan.parse import parse_methods, parse_revisions, parse_seeds
from benchmarks.plan.profiles import PROFILES, Profile, studies
from benchmarks.plan.request import Request
from benchmarks.suites import Suite
from results import RunSpec
from results.names import pick, unknown
from results.spec import LM_EVAL

FEW = 4  # tasks: fewer have no votes for LoRA-SMoE's own budget, a mean of four experts
MICRO_BATCH = 2  # documents, on a CPU, where padding costs more than another pass does


def resolve(request: Request) -> list[RunSpec]:
    """Return one spec for every method, seed and, with an adapter for each task, task; all methods of a seed together.

    So what a run that is cut short has finished can be compared. What trains nothing has one seed.
    Raises ValueError for a bad request.
    """
    profile = pick("profile", request.profile, PROFILES)
    specs: dict[str, RunSpec] = {}
    if request.model is None:
        of_profile: dict[str, Any] = {
            name: getattr(request, name) or getattr(profile, name) for name in ("source", "protocol")
        }
        request = replace(request, **of_profile)
    for model in (request.model,) if request.model is not None else profile.models:
        models.check(model)
        for part in _parts(replace(request, model=identity.canonical(model)), profile):
            specs.update({spec.key: spec for spec in _specs(part, profile) if spec.key not in specs})
    return list(specs.values())


def placing(specs: Sequence[RunSpec]) -> list[str]:
    """Say in a line each which methods place experts by another rule than their own, since tasks are few."""
    changed = {
        (spec.method, spec.hyperparameters["max_experts"])
        for spec in specs
        if spec.hyperparameters.get("rule") == "proportional"
        and getattr(registry.method(spec.method)(), "rule_name", None) == "votes"
        and len(spec.trained_tasks) < FEW
    }
    return [
        f"{name}: the tasks trained together have too few votes for its budget; experts by the proportional rule, "
        f"at most {most} a block (rule=proportional; baselines/README.md says why)"
        for name, most in sorted(changed)
    ]


def _parts(request: Request, profile: Profile) -> list[Request]:
    """Return the request itself, or one for each study of a profile that has several."""
    if not profile.studies:
        return [request]
    if request.methods is not None:
        raise ValueError(f"profile {request.profile!r} chooses the methods itself: leave --methods out")
    suite = _suite(request)
    layers = models.skeleton(str(request.model), request.trust_remote_code).config.get_text_config().num_hidden_layers
    documents = None if request.train_documents is None else request.train_documents // len(suite.tasks)
    return [replace(request, **change) for change in studies(len(suite.tasks), layers, documents)]


def _specs(request: Request, profile: Profile) -> list[RunSpec]:
    """Return the specs of one model and one choice of methods."""
    suite = _suite(request)
    request = _filled(request, suite, profile)
    _check(request, suite)
    source = _source(request, suite)
    names = {f.name for f in dataclasses.fields(RunSpec)} - {"data_seed", "learning_rate"}
    asked = {name: getattr(request, name) for name in names if hasattr(request, name)}
    asked |= {
        "suite": suite.name,
        "suite_version": suite.version,
        "tasks": suite.tasks,
        "source": source,
        "evaluation_limit": request.limit,
        "micro_batch": _micro_batch(request),
        "scorer": request.scorer if protocol(str(request.protocol)).scored else LM_EVAL,
        "revisions": sources.revisions(source, suite.tasks, parse_revisions(request.revision)),
        "own_tasks": sources.own_files(suite.tasks),
        "model_content": identity.content(str(request.model)),
        "targets": blocks.parse_targets(request.target_modules),
    }
    rates = _published_rates(request)
    seeds = parse_seeds(request.seeds, profile.seeds)
    methods = _methods(request, suite.tasks if request.adapters == "shared" else suite.tasks[:1])
    return [
        RunSpec(
            **{**asked, "method": method.name, "hyperparameters": _as_json(method.hyperparameters())},
            learning_rate=rates.get(repr(method), method.rate)
            if request.learning_rate is None
            else request.learning_rate,
            method_content=registry.content(method.name),
            seed=seed,
            data_seed=seed if request.data_seed is None else request.data_seed,
            task=task,
        )
        for seed in seeds
        for method in methods
        if method.trains or seed == seeds[0]
        for task in (suite.tasks if request.adapters == "per-task" else (None,))
    ]


def _suite(request: Request) -> Suite:
    if request.tasks is None:
        return pick("suite", request.suite, registry.suites())
    return custom.suite(tuple(name.strip() for name in request.tasks.split(",")))


def _filled(request: Request, suite: Suite, profile: Profile) -> Request:
    """Return the request with the profile's and the suite's values where it has none of its own."""
    values: dict[str, Any] = {
        "protocol": request.protocol or suite.protocol,
        "train_documents": request.train_documents or suite.train_documents or profile.train_documents,
        "limit": request.limit or suite.limit or profile.evaluation_limit,
        "task_shares": request.task_shares or suite.task_shares,
        "device": device(request.device),
        "match": request.match or "none",
    }
    return replace(request, **values)


def _source(request: Request, suite: Suite) -> str:
    """Return where the documents come from. Raises ValueError for a source without these tasks."""
    if (only := protocol(str(request.protocol)).source) is not None:
        return only
    source = request.source or sources.SOURCES[0]
    sources.check(source, suite.tasks)
    return source


def _micro_batch(request: Request) -> int:
    """Return the documents that go through the model at once: a whole step's where that costs no time in padding."""
    if request.micro_batch is not None:
        return request.micro_batch
    pads = request.device == "cpu" and protocol(str(request.protocol)).scored  # others are of one length
    return min(MICRO_BATCH, request.batch_size) if pads else request.batch_size


def _check(request: Request, suite: Suite) -> None:
    """Raise ValueError for what no field tells by itself: it does not fit the suite, other fields, or this machine."""
    if request.protocol not in suite.protocols:
        raise unknown(f"protocol of suite {suite.name}", str(request.protocol), suite.protocols)
    for name in ("limit", "train_documents"):
        if getattr(request, name) is None and protocol(request.protocol).endless:
            raise ValueError(f"suite {suite.name} has no end of documents: give a {name}")
    documents = request.train_documents
    if documents is not None and documents < len(suite.tasks):
        raise ValueError(f"train_documents {documents} must be at least one for each of the {len(suite.tasks)} tasks")
    if request.micro_batch is not None and request.micro_batch > request.batch_size:
        raise ValueError(
            f"micro_batch {request.micro_batch} must be at most batch_size {request.batch_size}, a step's documents"
        )
    examples.shares({"a": 1}, 0, str(request.task_shares))  # knows them, and refuses others by name
    models.check_quantize(request.quantize, request.device)
    if request.compiled:
        check_compiler(request.device)
    if request.malloc != "heap" and request.device != "cpu":
        raise ValueError(
            f"malloc {request.malloc} is for a CPU; on {request.device} what is allocated is counted itself"
        )


def _methods(request: Request, tasks: Sequence[str]) -> list[Method]:
    """Return the methods asked for, at the size that `match` gives them and as these tasks, trained together, let them.

    tasks: of one adapter.
    """
    methods = parse_methods(request.methods) if request.methods or not request.methods_from else []
    if request.methods_from:
        methods += [m for m in generic.all_of(request.methods_from) if m not in methods]
    if request.quantize != "none" and (base := [m.name for m in methods if m.trains_base]):
        raise ValueError(f"{', '.join(base)} trains the model's own weights, which --quantize freezes")
    if request.dtype == "float16" and (base := [m.name for m in methods if m.trains_base]):
        raise ValueError(f"{', '.join(base)} steps the model's own weights: float16 is too coarse, use bfloat16")

    @functools.cache
    def skeleton() -> torch.nn.Module:
        return models.skeleton(str(request.model), request.trust_remote_code)

    if request.gradient_checkpointing and not skeleton().supports_gradient_checkpointing:
        raise ValueError(
            f"model {request.model!r} has no gradient checkpointing: leave --gradient-checkpointing out, "
            "or take less memory by --micro-batch 1"
        )
    targets = blocks.parse_targets(request.target_modules)
    if request.match != "none":
        methods = match.sized_for(methods, str(request.match), skeleton(), targets)
    return [method.for_tasks(tasks, lambda m=method: blocks.shapes(skeleton(), m, targets)) for method in methods]  # type: ignore[misc]


def _published_rates(request: Request) -> dict[str, float]:
    """Return the rates that the folders of `methods_from` came with, by the contestant's text, where they are asked."""
    if not request.published_lr:
        return {}
    if request.methods_from is None or request.learning_rate is not None or request.match != "none":
        raise ValueError("published_lr is of --methods-from, at the published size, without --lr")
    return generic.published_rates(request.methods_from)


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as JSON gives them back, so that a spec read from disk equals the one that was written."""
    return json.loads(json.dumps(values))
