"""The comparisons under pytest-benchmark. A round is one turn of every competitor; the ratios are in `extra_info`."""

from __future__ import annotations

import math
from typing import Any

import pytest

from benchmarks.speed.ratios import Ratio
from benchmarks.speed.setting import Setting
from benchmarks.speed.subjects import SUBJECTS


@pytest.mark.parametrize("name", SUBJECTS)
def test_ratios_are_measured(name: str, setting: Setting, rows: list[Ratio], benchmark: Any) -> None:
    """Measure every ratio, each a finite number."""
    subject = SUBJECTS[name](setting)
    benchmark.pedantic(subject.round, rounds=subject.rounds)
    ratios = subject.rows()
    benchmark.extra_info.update({row.target.name: row.to_json() for row in ratios})
    rows += ratios
    assert all(math.isfinite(row.value) for row in ratios)
