"""What the pass over a card runs, in the order of its worth a second: commands, what they leave, minutes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.offline.gpu_size import FIRST, SIZES, Size, fitting
from results.store import Store

REHEARSED = 30.0  # minutes that any step of a rehearsal may take, on whatever machine it is
TRAINED = "lora-smoe,lora,molora,random-experts,adalora"  # with frozen, the main five and random placement
JOBS = 6
TESTS = ("tests/benchmarks/test_gpu.py", "tests/benchmarks/jobs/test_meter.py")


@dataclass(frozen=True, kw_only=True)
class Step:
    """Commands that run one after the other, each of which goes on where it stopped."""

    name: str
    what: str
    commands: Sequence[Sequence[str]]  # arguments of `python -m`
    then: Callable[[float], Sequence[Sequence[str]]] | None = None  # seconds left -> what follows those
    results: tuple[str, ...] = ()  # JSON files of the working folder that they leave
    expected: float  # minutes, on one H100: reckoned from shapes, not measured
    limit: float  # minutes


def steps(work: Path, rehearse: bool) -> list[Step]:
    """Return what is run, in this order: the most evidence a second first."""
    layer, wide, training, evaluation = (str(work / name) for name in ("layer", "wide", "training", "evaluation"))
    shapes = ["benchmarks.studies.shapes", "--out", str(work / "shapes.json")]
    if rehearse:
        on, large = ["--model", "tiny", "--dtype", "float32", "--device", "cpu"], ["--width", "64", "--effort", "0.05"]
        sizes, toy = ["--width", "32", "--tokens", "16", "--effort", "0.05"], ["--rehearse"]
    else:
        on, sizes, large, toy = ["--device", "cuda"], [], ["--width", "4096", "--tokens", "16384"], []
    three, eight = ([], []) if rehearse else (["--models", "random:Qwen2.5-3B"], ["--models", "random:Llama-3.1-8B"])
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
            what="layer at two sizes, training step and sensitivity pass beside what they compete with, as ratios",
            commands=[
                ["benchmarks.speed", *on, *sizes, "--only", "layer", "--out", layer],
                ["benchmarks.speed", *on, *large, "--only", "layer", "--out", wide],
                ["benchmarks.speed", *on, *sizes, "--only", "training,scoring", "--out", training],
            ],
            results=tuple(f"{name}/speed.json" for name in ("layer", "wide", "training")),
            expected=1.5,
            limit=2,
        ),
        Step(
            name="shapes",
            what="time and peak memory of the main methods at 3B and 8B, random weights; torch.compile at four layers",
            commands=[
                [*shapes, *toy, *three, "--parts", "entries,ratios"],
                *([] if rehearse else [[*shapes, *eight, "--parts", "entries"]]),
                [*shapes, *toy, *three, "--parts", "compiled"],
            ],
            results=("shapes.json",),
            expected=2.5,
            limit=3.5,
        ),
        Step(
            name="evaluation",
            what="choices scored by shared prefixes beside lm-eval's own wrapper: time and memory",
            commands=[["benchmarks.speed", *on, *sizes, "--only", "evaluation", "--out", evaluation]],
            results=("evaluation/speed.json",),
            expected=1,
            limit=1.5,
        ),
        Step(
            name="commonsense",
            what="the main five methods and random placement, as much data as there is time for; seeds 0, 1, 2",
            commands=[comparison(work, rehearse, FIRST, "lora", "0")],
            then=partial(sized, work, rehearse),
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
    """Return the runs of all methods, seed by seed, at the largest size whose first seed fits into `left` seconds."""
    size = SIZES[0] if rehearse else fitting(Store(work / "records").all(), left, JOBS)
    first = comparison(work, rehearse, size, f"frozen,{TRAINED}", "0")
    return [first, *([] if rehearse else [comparison(work, rehearse, size, TRAINED, seed) for seed in ("1", "2")])]
