"""The tiny model, loaded once."""

from __future__ import annotations

import pytest

from benchmarks.models import load as models


@pytest.fixture(scope="session")
def tiny():
    """(model, tokeniser); no test changes the weights."""
    return models.load(models.TINY, "float32", "cpu")


@pytest.fixture(scope="session")
def tokenizer(tiny):
    return tiny[1]
