"""`python -m pytest benchmarks/speed --benchmark-enable [--device cuda]`; the table of ratios comes last."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from benchmarks.speed.ratios import Ratio, table
from benchmarks.speed.setting import Setting

ROWS = pytest.StashKey[list[Ratio]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--device`."""
    parser.addoption("--device", default="cpu", help="cpu or cuda")


@pytest.fixture(scope="session")
def setting(request: pytest.FixtureRequest) -> Setting:
    """Return the toy setting on the device asked for."""
    return Setting(device=request.config.getoption("--device"))


@pytest.fixture
def rows(request: pytest.FixtureRequest) -> list[Ratio]:
    """Where a comparison leaves its ratios for the table."""
    return request.config.stash.setdefault(ROWS, [])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table of all ratios below the tests."""
    if rows := config.stash.get(ROWS, []):
        console = Console(width=200)
        with console.capture() as capture:
            console.print(table(rows))
        terminalreporter.write(capture.get())
