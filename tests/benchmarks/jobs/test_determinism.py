"""The same spec twice gives the same losses bit for bit and the same answer to every document, for every contestant.

Two processes, since that is how jobs run, and with unequal hash seeds, so that no order of a set can hide. In CI those
that draw, rank, search or route in a way of their own; the others are slow.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import PIPE

import pytest
import torch

from benchmarks import registry
from benchmarks.jobs.child import repeatable
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve

ROOT = Path(__file__).resolve().parents[3]
TASKS = ("arc_easy", "openbookqa")  # few documents to load
SMALL = {"r": 4, "init_r": 6, "target_r": 4, "mean_experts": 1}  # suits a hidden width of 32, and votes of two tasks
EMBEDDED = ("lora", "lora-smoe")
QUICK = (
    "adalora", "eva-experts", "full", "goat", "gora", "guilomo", "ld-mole", "lora", "lora-smoe", "mixlora", "molora",
    "pissa", "random-experts", "ranks", "smora",
)  # fmt: skip
PROGRAM = """
import json, sys
from benchmarks.jobs.child import attempt
from results import RunSpec

for line in sys.stdin:
    record = attempt(RunSpec.from_json(json.loads(line)))
    outcomes = {task: score.outcomes for task, score in (record.scores or {}).items()}
    found = [record.error, record.losses, outcomes, record.facts, record.environment["deterministic"]]
    print(json.dumps([record.key, *found]))
"""


def spec(method, model):
    fields = {f.name for f in dataclasses.fields(registry.methods()[method])}
    settings = "".join(f":{name}={value}" for name, value in SMALL.items() if name in fields)
    request = Request(
        methods=method + settings, model=model, train_documents=16, limit=4, batch_size=4, probe_documents=2,
        dtype="float32" if model == "tiny" else "bfloat16", device="cpu",
    )  # fmt: skip
    return dataclasses.replace(resolve(request)[0], tasks=TASKS)


SPECS = {f"{m}-tiny": spec(m, "tiny") for m in registry.methods()} | {
    f"{m}-embedded": spec(m, "smollm2-135m") for m in EMBEDDED
}


@pytest.fixture(scope="module")
def twice(request):
    """By key, (error, losses, outcomes, facts, whether it is said to repeat) of each of two processes."""
    asked = {
        i.callspec.params["name"] for i in request.session.items if i.path == request.path and "callspec" in vars(i)
    }
    lines = "\n".join(json.dumps(SPECS[name].to_json()) for name in sorted(asked))
    started = []
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-c", PROGRAM]
        started.append(subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=env, cwd=ROOT, text=True))
    with ThreadPoolExecutor() as threads:  # both at once
        printed = list(threads.map(lambda process: process.communicate(lines), started))
    runs = []
    for process, (out, errors) in zip(started, printed, strict=True):
        assert process.returncode == 0, errors[-2000:]
        rows = [json.loads(line) for line in out.splitlines() if line.startswith("[")]
        runs.append({key: found for key, *found in rows})
    return runs


def _marks(name):
    return [] if name.removesuffix("-tiny") in QUICK or name.endswith("-embedded") else [pytest.mark.slow]


@pytest.mark.parametrize("name", [pytest.param(name, marks=_marks(name)) for name in SPECS])
def test_the_same_spec_gives_the_same_losses_and_outcomes(twice, name, counted):
    first, second = (run[SPECS[name].key] for run in twice)
    error, losses, outcomes, _, promised = first
    assert error is None and promised is True
    assert len(losses) == (0 if name.startswith("frozen") else 4) and set(outcomes) == set(TASKS)
    assert first == second
    counted("contestants run twice, in processes of their own: equal losses, scores and allocation, bit for bit", 1, 1)


def test_a_gpu_promises_repeats_only_where_it_is_told_to():
    assert repeatable("cpu") and not repeatable("cuda")
    torch.use_deterministic_algorithms(True)
    try:
        assert repeatable("cuda")
    finally:
        torch.use_deterministic_algorithms(False)
