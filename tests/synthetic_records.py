"""Made-up records for the tests of `results` and `reports`: any methods, seeds, sizes and failures, from a seed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Any

from results.record import PHASES, Cost, Parameters, Record, RunSpec, Score

TASKS = ("boolq", "piqa", "social_iqa", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa")
PROJECTIONS = tuple(f"self_attn.{p}_proj" for p in "qkvo") + tuple(f"mlp.{p}_proj" for p in ("gate", "up", "down"))
SKILL = {"frozen": 0.42, "lora": 0.50, "molora": 0.51, "adalora": 0.47, "lora-smoe": 0.53}
ALLOCATORS = ("lora-smoe", "molora", "mola", "alphalora", "random-experts", "inverse-experts", "eva-experts")


def make_spec(**changes: Any) -> RunSpec:
    fields: dict[str, Any] = {
        "suite": "commonsense", "tasks": TASKS, "method": "lora", "hyperparameters": {"r": 8, "alpha": 16},
        "model": "smollm2-135m", "source": "embedded", "protocol": "loglik", "task_shares": "equal", "seed": 0,
        "data_seed": 0, "train_documents": 640, "epochs": 1.0, "batch_size": 16, "learning_rate": 1e-3,
        "warmup_fraction": 0.1, "weight_decay": 0.0, "max_length": 256, "probe_documents": 8, "evaluation_limit": 16,
        "evaluation_batch_size": 16, "dtype": "bfloat16", "device": "cpu",
    }  # fmt: skip
    return RunSpec(**{**fields, **changes})


def make_environment(**changes: Any) -> dict[str, Any]:
    versions = {"torch": "2.13.0+cpu", "transformers": "5.23.0", "peft": "0.21.2", "lm_eval": "0.4.13"}
    return {
        "cpu_model": "Test CPU", "device_name": None, "versions": versions, "git_commit": "c0ffee" * 6 + "abcd",
        "git_dirty": False, "python": "3.11.7", "cpu_count": 2, **changes,
    }  # fmt: skip


def make_score(task: str, skill: float, count: int, noise: random.Random) -> Score:
    """Outcomes that share their luck between methods (as real documents do) through a difficulty drawn per document."""
    outcomes = []
    for i in range(count):
        difficulty = random.Random(f"{task}{i}").random()
        outcomes.append(float(0.7 * difficulty + 0.3 * noise.random() < skill))
    mean = sum(outcomes) / count
    stderr = (mean * (1 - mean) / (count - 1)) ** 0.5 if count > 1 else None
    names = tuple(hashlib.sha256(f"{task}{i}".encode()).hexdigest()[:12] for i in range(count))
    return Score(
        metric="acc",
        value=mean,
        stderr=stderr,
        count=count,
        all_metrics={"acc": mean},
        documents=names,
        outcomes=outcomes,
    )


def make_record(
    method: str = "lora", seed: int = 0, layers: int = 30, count: int = 40, env: Any = None, **spec_changes: Any
) -> Record:
    """A finished record. Everything follows from the arguments."""
    spec = make_spec(method=method, seed=seed, **spec_changes)
    noise = random.Random(f"{method}{seed}")
    skill = SKILL.get(method, 0.45 + 0.08 * noise.random()) + 0.01 * noise.random()
    blocks = [f"model.layers.{i}.{p}" for i in range(layers) for p in PROJECTIONS]
    facts: dict[str, Any] = {}
    experts = None
    if method in ALLOCATORS:
        experts = {b: 4 if method == "molora" else noise.randint(0, 8) for b in blocks}
        facts["experts"] = experts
    if method == "lora-smoe":
        facts["sensitivity"] = {t: {b: 10 ** noise.uniform(-4, 0) for b in blocks} for t in spec.tasks}
    trainable = {"frozen": 0, "lora": 2_442_240}.get(method, 2_000_000 + noise.randint(0, 8_000_000))
    steps = 0 if method == "frozen" else 40
    costs = {}
    for phase, seconds, tokens in zip(
        PHASES,
        (2.5, 8.0 if experts else 0.1, steps * 1.5, 45.0),
        (None, 4000, steps * 900 or None, 90_000),
        strict=True,
    ):
        costs[phase] = Cost(
            wall_seconds=seconds * (1 + 0.1 * noise.random()), tokens=tokens, peak_allocated_bytes=None,
            peak_reserved_bytes=None, peak_resident_bytes=int(1e9 * (1 + noise.random())),
        )  # fmt: skip
    return Record(
        spec=spec, status="done", error=None,
        scores={t: make_score(t, skill, count, noise) for t in spec.tasks},
        parameters=Parameters(
            total=134_500_000 + trainable, trainable=trainable, experts=trainable - 100_000 if experts else None,
            router=100_000 if experts else None, active_per_token=trainable,
            after_pruning=trainable // 2 if method == "adalora" else None, adapter_bytes=trainable * 2,
        ),
        costs=costs,
        losses=tuple(2.5 * 0.97**i + 0.2 * noise.random() for i in range(steps)) or None,
        facts=facts, data={}, environment=make_environment(**(env or {})),
    )  # fmt: skip


def make_failed(
    method: str, seed: int = 0, error: str = "ValueError: budget | of 3 is\nimpossible", **spec: Any
) -> Record:
    cost = Cost(
        wall_seconds=1.0, tokens=None, peak_allocated_bytes=None, peak_reserved_bytes=None, peak_resident_bytes=None
    )
    return Record(
        spec=make_spec(method=method, seed=seed, **spec), status="failed", error=error, scores=None, parameters=None,
        costs={"load": cost}, losses=None, facts={}, data={}, environment=make_environment(),
    )  # fmt: skip


def make_run(methods: Sequence[str] = tuple(SKILL), seeds: Sequence[int] = (0,), **changes: Any) -> list[Record]:
    return [make_record(m, s, **changes) for m in methods for s in seeds]
