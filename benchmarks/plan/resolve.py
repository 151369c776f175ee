"""Request -> fully resolved RunSpecs. What the fields of a request cannot tell by themselves is refused here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from baselines.method import Method
from benchmarks import registry
from benchmarks.data import examples, sources
from benchmarks.data.protocols import protocol
from benchmarks.models import load as models
from benchmarks.plan import custom, match
from benchmarks.plan.device import check_compiler, device
from benchmarks.plan.parse import parse_methods, parse_revisions, parse_seeds
from benchmarks.plan.profiles import PROFILES, Profile, studies
from benchmarks.plan.request import Request
from benchmarks.suite import Suite
from results import RunSpec
from results.names import pick, unknown

MICRO_BATCH = 2  # documents, on a CPU, where padding costs more than another pass does


def resolve(request: Request) -> list[RunSpec]:
    """Return one spec for every method, seed and, with an adapter for each task, task; all seeds of a method together.

    What trains nothing has one seed. Raises ValueError for a bad request.
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
        for part in _parts(replace(request, model=model), profile):
            specs.update({spec.key: spec for spec in _specs(part, profile) if spec.key not in specs})
    return list(specs.values())


def _parts(request: Request, profile: Profile) -> list[Request]:
    """Return the request itself, or one for each study of a profile that has several."""
    if not profile.studies:
        return [request]
    if request.methods is not None:
        raise ValueError(f"profile {request.profile!r} chooses the methods itself: leave --methods out")
    suite = _suite(request)
    layers = models.skeleton(str(request.model), request.trust_remote_code).config.num_hidden_layers
    documents = None if request.train_documents is None else request.train_documents // len(suite.tasks)
    return [replace(request, **change) for change in studies(len(suite.tasks), layers, documents)]


def _specs(request: Request, profile: Profile) -> list[RunSpec]:
    """Return the specs of one model and one choice of methods."""
    suite = _suite(request)
    request = _filled(request, suite, profile)
    _check(request, suite)
    source = _source(request, suite)
    names = {f.name for f in dataclasses.fields(RunSpec)} - {"data_seed"}
    asked = {name: getattr(request, name) for name in names if hasattr(request, name)}
    asked |= {
        "suite": suite.name,
        "suite_version": suite.version,
        "tasks": suite.tasks,
        "source": source,
        "evaluation_limit": request.limit,
        "micro_batch": _micro_batch(request),
        "revisions": sources.revisions(source, suite.tasks, parse_revisions(request.revision)),
        "own_tasks": sources.own_files(suite.tasks),
    }
    seeds = parse_seeds(request.seeds, profile.seeds)
    return [
        RunSpec(
            **{**asked, "method": method.name, "hyperparameters": _as_json(dataclasses.asdict(method))},
            seed=seed,
            data_seed=seed if request.data_seed is None else request.data_seed,
            task=task,
        )
        for method in _methods(request)
        for seed in (seeds if method.trains else seeds[:1])
        for task in (suite.tasks if request.adapters == "per-task" else (None,))
    ]


def _suite(request: Request) -> Suite:
    if request.tasks is None:
        return pick("suite", request.suite, registry.suites())
    return custom.suite(tuple(name.strip() for name in request.tasks.split(",")))


def _filled(request: Request, suite: Suite, profile: Profile) -> Request:
    """Return the request with the profile's and the suite's values where it has none of its own."""
    documents, limit = request.train_documents, request.limit
    values: dict[str, Any] = {
        "protocol": request.protocol or suite.protocol,
        "train_documents": documents if documents is not None else profile.train_documents,
        "limit": limit if limit is not None else profile.evaluation_limit,
        "task_shares": request.task_shares or suite.task_shares,
        "device": device(request.device),
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


def _methods(request: Request) -> list[Method]:
    """Return the methods asked for, at the size that `match` gives them."""
    methods = parse_methods(request.methods)
    if request.quantize != "none" and (base := [m.name for m in methods if m.trains_base]):
        raise ValueError(f"{', '.join(base)} trains the model's own weights, which --quantize freezes")
    if request.match == "none":
        return methods
    shapes = match.shapes_of(models.skeleton(str(request.model), request.trust_remote_code))
    return match.sized(methods, request.match, shapes)


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as JSON gives them back, so that a spec read from disk equals the one that was written."""
    return json.loads(json.dumps(values))
