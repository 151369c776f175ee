"""The comparisons by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.speed import evaluation, jobs, layer, routers, scoring, serving
from benchmarks.speed.ratios import Subject
from benchmarks.speed.setting import Setting
from benchmarks.speed.step import compiled, limits, parts, roofline, training

SUBJECTS: Mapping[str, Callable[[Setting], Subject]] = {
    "layer": layer.prepare,
    "limits": limits.prepare,
    "training": training.prepare,
    "routers": routers.prepare,
    "scoring": scoring.prepare,
    "evaluation": evaluation.prepare,
    "jobs": jobs.prepare,
    "serving": serving.prepare,
    "bytes": parts.prepare,
    "roofline": roofline.prepare,
    "compiled": compiled.prepare,
    "share": scoring.prepare_share,
}
