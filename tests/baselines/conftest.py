"""One thread, since these models are so small that threads only wait for each other; and what contestants train on."""

from __future__ import annotations

import random

import pytest
import torch

from benchmarks import models
from benchmarks.batches import collate
from benchmarks.examples import Example

TASKS = tuple(f"task{i}" for i in range(8))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny():
    """A fresh frozen model: the same weights each time."""
    return models.load(models.TINY, "float32", "cpu")[0]


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
