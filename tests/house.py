"""Print the house: folders, lengths, arrows and circles of the packages (`python tests/house.py [ROOT]`).

Read from the source files alone, so that it also reads an older checkout: the before and after of a redraw.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("smoe", "baselines", "benchmarks", "results", "reports")
DATA = {"out", "out-paper", "out-cost", "records", "costs", "baseline", "speed.json", "scratch", "__pycache__"}
MOST_LINES, MOST_FUNCTION = 300, 60


def modules(root: Path) -> dict[str, Path]:
    """Map every module of the packages to its file, by dotted name."""
    names = {}
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return names


def imports(file: Path, known: dict[str, Path]) -> set[str]:
    """Return the modules of this repository that a file imports anywhere, inside functions too."""
    targets: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            targets |= {name if name in known else node.module for name in whole}
    return {name for name in targets if name in known}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other in a circle (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    result: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in sorted(graph[name]):
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            members = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(members) > 1:
                result.append(sorted(members))

    for name in graph:
        if name not in index:
            visit(name)
    return result


def functions(file: Path) -> Iterator[tuple[str, int]]:
    """Yield (name, lines) of every function of a file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def entries(folder: Path) -> list[Path]:
    """Return what a listing of a source folder shows, data and caches left out."""
    return [p for p in sorted(folder.iterdir()) if p.name not in DATA and not p.name.startswith(".")]


def room(module: str) -> str:
    """Name the room of a module: its folder, or its package for files at the package's top."""
    parts = module.split(".")
    return ".".join(parts[:2]) if len(parts) > 2 else parts[0]


def report(root: Path) -> str:
    """Return the whole listing as text."""
    known = modules(root)
    graph = {name: imports(file, known) - {name} for name, file in known.items()}
    lines = ["folder                              entries  files  lines"]
    for folder in sorted({file.parent for file in known.values()}):
        sources = sorted(folder.glob("*.py"))
        count = sum(len(f.read_text(encoding="utf-8").splitlines()) for f in sources)
        name = folder.relative_to(root).as_posix()
        lines.append(f"{name:36}{len(entries(folder)):7}{len(sources):7}{count:7}")
    sizes = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in known.values()}
    long_files = [f"{f.relative_to(root)} {n}" for f, n in sorted(sizes.items()) if n > MOST_LINES]
    long_functions = [
        f"{file.relative_to(root)}:{name} {n}"
        for file in known.values()
        for name, n in functions(file)
        if n > MOST_FUNCTION
    ]
    lines += ["", f"source files above {MOST_LINES} lines: {', '.join(long_files) or 'none'}"]
    lines += [f"functions above {MOST_FUNCTION} lines: {', '.join(long_functions) or 'none'}"]
    arrows = Counter((room(a), room(b)) for a, targets in graph.items() for b in targets if room(a) != room(b))
    lines += ["", "arrows (imports between rooms)"]
    lines += [f"  {a:24} -> {b:24}{n:4}" for (a, b), n in sorted(arrows.items())]
    rings = circles(graph)
    lines += ["", "circles of modules: " + ("; ".join(" <-> ".join(ring) for ring in rings) or "none")]
    return "\n".join(lines)


if __name__ == "__main__":
    print(report(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)))
