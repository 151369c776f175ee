"""Sizes of run with a name, and the studies behind `--profile paper`.

The paper's studies are the jobs behind the set of figures that the authors' release points to: the main comparison, and
four ablations of LoRA-SMoE (samples that sensitivity is measured on, budget, grouping, and the shape over the layers
beside MoLA's). `python -m reports paper` draws them. A job that two studies share is run once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.data.sources import SOURCES
from benchmarks.models.load import EMBEDDED
from smoe import DEFAULT_TARGETS

MODELS = ("Qwen/Qwen2.5-3B", "Qwen/Qwen2.5-7B")  # the release's, at full size
COMPARED = "frozen,lora,dora,adalora,molora,mola,alphalora,hydralora,random-experts,lora-smoe"
GROUPINGS = "lora-smoe,smoe-type,smoe-global,smoe-attention,smoe-mlp"
PASSING = (0.4, 0.5, 0.6, 0.7, 0.8)  # share of the blocks that pass for each task; the release uses 0.6
SHAPES = ("inverted-triangle", "triangle", "hourglass", "diamond", "rectangle")
SAMPLES = (1, 2, 4, 8)  # a layer; the release's 36, 72, 144 and 288 steps of a model of 36 layers


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A size of run with a name; defaults mean the same on every machine."""

    train_documents: int | None
    evaluation_limit: int | None  # documents a task
    seeds: int
    models: tuple[str, ...] = (EMBEDDED,)
    source: str = SOURCES[0]  # of its own models, as is the protocol; None: the suite's
    protocol: str | None = None
    studies: bool = False  # several sets of methods and sizes: `studies`


PROFILES: Mapping[str, Profile] = {
    "small": Profile(train_documents=320, evaluation_limit=32, seeds=1),
    "medium": Profile(train_documents=4000, evaluation_limit=200, seeds=1),
    "full": Profile(train_documents=None, evaluation_limit=None, seeds=3),
    "paper": Profile(
        train_documents=None,
        evaluation_limit=None,
        seeds=3,
        models=MODELS,
        source="hub",
        protocol="generative",
        studies=True,
    ),
}


def studies(tasks: int, layers: int, documents: int | None) -> list[dict[str, Any]]:
    """Return changes to a request, one dictionary a study or size of probe.

    tasks, layers: of the suite and the model. documents: training documents a task, None for all; probes larger than
    that are left out.
    """
    blocks = layers * len(DEFAULT_TARGETS)
    # The share is rounded to whole experts: of 252 blocks and 8 tasks 40% would be 806.4 of them.
    budgets = ",".join(f"lora-smoe:mean_experts={round(share * tasks * blocks) / blocks!r}" for share in PASSING)
    changes: list[dict[str, Any]] = [
        {"methods": COMPARED},
        {"methods": GROUPINGS},
        {"methods": budgets},
        {"methods": ",".join(f"mola:shape={shape}" for shape in SHAPES)},
    ]
    # "paper" scores every layer on each sample, "released" one layer a sample.
    probes = [("lora-smoe", n) for n in SAMPLES] + [("smoe-released", n * layers) for n in SAMPLES]
    return changes + [
        {"methods": method, "probe_documents": n} for method, n in probes if documents is None or n <= documents
    ]
