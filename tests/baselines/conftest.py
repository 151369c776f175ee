"""What contestants train on in these tests."""

from __future__ import annotations

import random

import pytest

from benchmarks.data.batches import collate
from benchmarks.data.examples import Example
from benchmarks.models.load import TINY
from benchmarks.models.load import load as load_model

TASKS = tuple(f"task{i}" for i in range(8))


@pytest.fixture
def tiny():
    """A fresh frozen model: the same weights each time."""
    return load_model(TINY, "float32", "cpu")[0]


@pytest.fixture(scope="session")
def batch():
    """Three samples of unequal length, so that there is padding."""
    return _batch("batch", (24, 17, 20))


@pytest.fixture(scope="session")
def probe():
    return {task: [_batch(task, (12, 15))] for task in TASKS}


def _batch(name, lengths):
    rng = random.Random(name)
    return collate([Example(name, tuple(rng.randrange(256) for _ in range(n)), 4, False) for n in lengths], 257)
