"""The comparisons by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.speed import evaluation, jobs, layer, routers, scoring, serving, training
from benchmarks.speed.ratios import Subject
from benchmarks.speed.setting import Setting

SUBJECTS: Mapping[str, Callable[[Setting], Subject]] = {
    "layer": layer.prepare,
    "training": training.prepare,
    "routers": routers.prepare,
    "scoring": scoring.prepare,
    "evaluation": evaluation.prepare,
    "jobs": jobs.prepare,
    "serving": serving.prepare,
    "share": scoring.prepare_share,
}
