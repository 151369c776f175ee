"""The tiny model, loaded once."""

from __future__ import annotations

import pytest

from benchmarks.models.load import TINY
from benchmarks.models.load import load as load_model


@pytest.fixture(scope="session")
def tiny():
    """(model, tokeniser); no test changes the weights."""
    return load_model(TINY, "float32", "cpu")


@pytest.fixture(scope="session")
def tokenizer(tiny):
    return tiny[1]
