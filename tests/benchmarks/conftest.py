"""The tiny model, loaded once; one thread, since threads only wait for each other here; the made-up records."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from benchmarks import models

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "results"))


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny():
    """(model, tokeniser); no test changes the weights."""
    return models.load(models.TINY, "float32", "cpu")


@pytest.fixture(scope="session")
def tokenizer(tiny):
    return tiny[1]
