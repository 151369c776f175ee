"""Lets the tests of this folder import the made-up records of `tests/results`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "results"))
