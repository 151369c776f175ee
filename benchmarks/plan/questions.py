"""The protocol of a study: a question, arms of jobs, and contrasts that answer it, all said before anything runs.

A study is a file of `benchmarks/studies/` that makes a `Question`; sizes have a name and mean the same for all studies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.models import load as models
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from results import RunSpec
from results.names import pick
from results.studies.study import Contrast, Study
from smoe import block_shapes

PRIMARY = "bits_per_byte"  # the declared measure of every study: learning


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a study is; `tiny` shows that everything works and answers nothing."""

    name: str
    request: Mapping[str, Any]  # fields of a Request
    seeds: int
    draws: int  # random allocations
    documents: int  # of training, a task
    tasks: int  # of the suite
    in_process: bool = False


SIZES: Mapping[str, Size] = {
    "tiny": Size(
        name="tiny",
        request={"suite": "commonsense", "model": "tiny", "dtype": "float32", "limit": 4, "max_length": 768},
        seeds=2, draws=2, documents=8, tasks=5, in_process=True,
    ),
    "small": Size(
        name="small", request={"suite": "commonsense", "model": "smollm2-135m", "limit": 16},
        seeds=2, draws=8, documents=40, tasks=8,
    ),
    "medium": Size(
        name="medium", request={"suite": "commonsense", "model": "smollm2-135m", "limit": 200},
        seeds=3, draws=20, documents=500, tasks=8,
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Jobs that stand together: a request's changes, on the first `tasks` tasks of the suite."""

    label: str
    request: Mapping[str, Any]  # "methods" of one contestant, and whatever differs from the size's
    tasks: int | None = None  # None: all of the size
    seeds: int | None = None  # None: those of the size


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What a study knows when it lays out its arms."""

    size: Size
    blocks: int  # of the model
    shapes: Mapping[str, tuple[int, int]]  # (in, out) of each
    tasks: tuple[str, ...]  # of the suite, as many as the size has


@dataclass(frozen=True, kw_only=True)
class Question:
    """A study before its jobs are known."""

    name: str
    question: str
    design: str
    yes: str
    no: str
    undecided: str
    arms: Callable[[Scale], Sequence[Arm]]
    contrasts: Callable[[Scale], Sequence[Contrast]]
    # {panel: {curve: labels of arms}}, drawn over trainable parameters in the place of the contrasts
    curves: Callable[[Scale], Mapping[str, Mapping[str, Sequence[str]]]] = lambda scale: {}


def planned(question: Question, size: str, **changes: Any) -> tuple[Study, list[RunSpec]]:
    """Return the study with the keys of its jobs, and the jobs, each once.

    changes: fields of every request. Raises ValueError for a bad one.
    """
    chosen = pick("size", size, SIZES)
    base = {**chosen.request, **{name: value for name, value in changes.items() if value is not None}}
    seeds = base.pop("seeds", f"0-{chosen.seeds - 1}")
    first = resolve(Request(**base, methods="frozen", seeds="0"))[0]
    tasks = first.tasks if changes.get("suite") else first.tasks[: chosen.tasks]  # another suite: all that it has
    model = models.skeleton(first.model, bool(base.get("trust_remote_code")))
    shapes = block_shapes(model)
    scale = Scale(size=chosen, blocks=len(shapes), shapes=shapes, tasks=tasks)
    specs: dict[str, RunSpec] = {}
    labels: dict[str, tuple[str, ...]] = {}
    for arm in question.arms(scale):
        count = arm.tasks or len(tasks)
        own = {"seeds": seeds if arm.seeds is None else f"0-{arm.seeds - 1}", **arm.request}
        made = resolve(Request(**{"train_documents": count * chosen.documents, **base, **own}))
        kept = [replace(s, tasks=s.tasks[:count]) for s in made if s.task is None or s.task in s.tasks[:count]]
        specs.update({spec.key: spec for spec in kept})
        labels[arm.label] = tuple(spec.key for spec in kept)
    study = Study(
        name=question.name, size=size, question=question.question, design=question.design, yes=question.yes,
        no=question.no, undecided=question.undecided, measure=PRIMARY, arms=labels,
        contrasts=tuple(question.contrasts(scale)),
        curves={p: {c: tuple(of) for c, of in by.items()} for p, by in question.curves(scale).items()},
    )  # fmt: skip
    return study, list(specs.values())
