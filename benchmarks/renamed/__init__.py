"""Commands under their names of the last release: each warns, and runs what it is called now.

`benchmarks` and `benchmarks.speed` look for modules here as well, so `python -m benchmarks.cost` still works.
"""

from __future__ import annotations

import runpy
import sys


def run(old: str, new: str) -> None:
    """Run the module `new` as the program, after a warning on standard error."""
    print(f"warning: python -m {old} is now python -m {new}; the old name goes with the next release", file=sys.stderr)
    runpy.run_module(new, run_name="__main__", alter_sys=True)
