"""The comparisons by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.speed import layer, scoring, training
from benchmarks.speed.ratios import Subject
from benchmarks.speed.setting import Setting

SUBJECTS: Mapping[str, Callable[[Setting], Subject]] = {
    "layer": layer.prepare,
    "training": training.prepare,
    "scoring": scoring.prepare,
    "share": scoring.prepare_share,
}
