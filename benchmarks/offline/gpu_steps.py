"""What the pass over a card runs, in the order of its worth a second: commands, what they leave, minutes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.offline.gpu_size import FIRST, SIZES, Size, fitting
from results.store import Store

REHEARSED = 30.0  # minutes that any step of a rehearsal may take, on whatever machine it is
METHODS = "adalora,lora-smoe,lora,lora-own,molora,random-experts,inverse-experts,frozen"  # the longest jobs first
SEEDS = 3
JOBS = SEEDS * 7 + 1
# Jobs at once. At 135M a step is bound by launches, and a device idles most of the time; sixteen filled an H100's 80 GB
# and took 0.6 s a step each, where one alone takes about 0.2.
TOGETHER = 8
TESTS = ("tests/benchmarks/test_gpu.py", "tests/benchmarks/jobs/test_meter.py")


@dataclass(frozen=True, kw_only=True)
class Step:
    """Commands that run one after the other, each of which goes on where it stopped."""

    name: str
    what: str
    commands: Sequence[Sequence[str]]  # arguments of `python -m`
    then: Callable[[float], Sequence[Sequence[str]]] | None = None  # seconds left -> what follows those
    last: Sequence[Sequence[str]] = ()  # for what time is left after all that
    results: tuple[str, ...] = ()  # JSON files of the working folder that they leave
    expected: float  # minutes, on one H100: reckoned from shapes, not measured
    limit: float  # minutes


def steps(work: Path, rehearse: bool) -> list[Step]:
    """Return what is run, in this order: the most evidence a second first."""
    layer, wide, small, training = (str(work / name) for name in ("layer", "wide", "small", "training"))
    if rehearse:
        on, large = ["--model", "tiny", "--dtype", "float32", "--device", "cpu"], ["--width", "64", "--effort", "0.05"]
        sizes = ["--width", "32", "--tokens", "16", "--effort", "0.05"]
    else:
        on, sizes, large = ["--device", "cuda"], [], ["--width", "4096", "--tokens", "16384"]
    three = published(work, rehearse, "shapes.json", "random:Qwen2.5-3B", "entries,ratios")
    compiled = published(work, rehearse, "compiled.json", "random:Qwen2.5-3B", "compiled")
    eight = published(work, rehearse, "shapes.json", "random:Llama-3.1-8B", "entries")
    made = [
        Step(
            name="tests",
            what="tests that need the card",
            commands=[["pytest", "-m", "gpu", "--no-header", "--continue-on-collection-errors", *TESTS]],
            expected=0.5,
            limit=1.5,
        ),
        Step(
            name="speed",
            what="what the card does at most, odd rows, the layer at two sizes beside what it competes with",
            commands=[
                ["benchmarks.speed", *on, *sizes, "--only", "limits,layer", "--out", layer],
                ["benchmarks.speed", *on, *large, "--only", "limits,layer", "--out", wide],
            ],
            results=("layer/speed.json", "wide/speed.json"),
            expected=1,
            limit=1.5,
        ),
        Step(
            name="shapes",
            what="time and peak memory of the main methods at 3B and 8B, random weights",
            commands=[three, *([] if rehearse else [eight])],
            results=("shapes.json",),
            expected=3,
            limit=4.5,
        ),
        Step(
            name="small",
            what="the embedded model: choices scored by shared prefixes beside lm-eval's own wrapper, time and memory",
            commands=[["benchmarks.speed", *on, *sizes, "--only", "evaluation", "--out", small]],
            results=("small/speed.json",),
            expected=1,
            limit=1.5,
        ),
        Step(
            name="commonsense",
            what="the main methods and both controls, as much data as there is time for; then torch.compile, training",
            commands=[comparison(work, rehearse, FIRST, "lora", "0")],
            then=partial(sized, work, rehearse),
            last=[compiled, ["benchmarks.speed", *on, *sizes, "--only", "training,scoring", "--out", training]],
            results=("compiled.json", "training/speed.json"),
            expected=5,
            limit=150,
        ),
    ]
    return [replace(step, limit=REHEARSED) for step in made] if rehearse else made


def comparison(work: Path, rehearse: bool, size: Size, methods: str, seed: str) -> list[str]:
    """Return the run of some methods at a size; evaluation batches are fixed, since scores in bfloat16 move with them.

    Nothing is drawn: the pass's page has the table.
    """
    on = ["--model", "tiny", "--dtype", "float32", "--device", "cpu"] if rehearse else ["--device", "cuda"]
    run = ["benchmarks.run", "--suite", "commonsense", *on, "--out", str(work / "records"), "--no-report"]
    run += ["--evaluation-batch-size", "64", *size.options(rehearse)]
    return [*run, "--methods", methods, "--seeds", seed]


def sized(work: Path, rehearse: bool, left: float) -> list[list[str]]:
    """Return the run of all methods at the largest size whose seeds fit into `left` seconds, seed by seed."""
    size = SIZES[0] if rehearse else fitting(Store(work / "records").all(), left, JOBS, TOGETHER)
    methods, seeds = ("lora-smoe,frozen", "0") if rehearse else (METHODS, f"0-{SEEDS - 1}")
    return [[*comparison(work, rehearse, size, methods, seeds), "--jobs", str(2 if rehearse else TOGETHER)]]


def published(work: Path, rehearse: bool, name: str, model: str, parts: str) -> list[str]:
    """Return the measurement of some parts at the shape of a published model; a rehearsal has a toy of its own."""
    at = ["--rehearse"] if rehearse else ["--models", model]
    return ["benchmarks.studies.shapes", "--out", str(work / name), *at, "--parts", parts]
