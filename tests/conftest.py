"""No test may reach the network, whatever the machine allows; one thread, since tiny models only wait for threads."""

from __future__ import annotations

import json
import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True, scope="module")
def one_thread(request):
    """Only where torch is used at all: the tests of `results` and `reports` do without it."""
    folder = request.path.relative_to(request.config.rootpath / "tests").parts[0]
    if folder not in ("smoe", "baselines", "benchmarks"):
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def counted(record_property):
    """Put on record how often something was tried and held; `tests/reliability.py` makes a table of it."""
    return lambda what, tried, held: record_property("counted", json.dumps([what, tried, held]))
