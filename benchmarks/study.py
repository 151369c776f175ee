"""`python -m benchmarks.study NAME ...`: a question that takes more than one table; without a name it lists them.

A study is a file of `benchmarks/studies/` with a typer application called `app`; its first docstring line says what it
answers.
"""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

from results.names import unknown

FOLDER = Path(__file__).parent / "studies"


def studies() -> dict[str, str]:
    """Map every study's name to its first docstring line, read without importing it."""
    files = sorted(file for file in FOLDER.glob("*.py") if file.stem != "__init__")
    docs = {file.stem: ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "" for file in files}
    return {name: doc.splitlines()[0] if doc else "" for name, doc in docs.items()}


def main(arguments: list[str]) -> int:
    """List the studies, or run the one that is named. Returns the exit status."""
    summaries = studies()
    if not arguments or arguments[0] in ("-h", "--help"):
        print("python -m benchmarks.study NAME ..., each with --help:\n")
        print("\n".join(f"  {name:12}{summary}" for name, summary in summaries.items()))
        return 0
    name, *rest = arguments
    if name not in summaries:
        print(f"error: {unknown('study', name, summaries)}", file=sys.stderr)
        return 2
    importlib.import_module(f"benchmarks.studies.{name}").app(rest, prog_name=f"python -m benchmarks.study {name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
