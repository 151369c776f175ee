"""Who may import whom: the arrows of the house plan, walked in every source file."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DRAWING = {"matplotlib", "rich", "typer"}
ALLOWED = {
    "smoe": {"aenum", "peft", "torch", "transformers"},
    "baselines": {"peft", "pydantic", "smoe", "torch"},
    "benchmarks": {
        "accelerate", "baselines", "datasets", "peft", "pydantic", "results", "rich", "smoe", "tokenizers", "torch",
        "transformers", "typer",
    },
    "results": {"pydantic"},
    "reports": {
        "PIL", "jinja2", "markupsafe", "matplotlib", "numpy", "pandas", "results", "rich", "scipy", "statsmodels",
        "typer", "yaml",
    },
}  # fmt: skip
FURTHER = {
    "baselines/fields.py": {"results"},  # nearest names, of which there is one copy
    "baselines/generic/config.py": {"results"},  # the same
    "smoe/__main__.py": DRAWING,
    "smoe/heatmap.py": DRAWING,
    "benchmarks/data/tasks.py": {"lm_eval"},
    "benchmarks/jobs/evaluate.py": {"lm_eval"},
    "benchmarks/gate/answers.py": {"numpy"},
    "benchmarks/gate/relative.py": {"numpy", "scipy"},
    "results/table.py": {"rich"},  # inside the one function that renders for the terminal
    "benchmarks/data/documents.py": {"numpy", "scipy"},  # connected components, sparse products
    "benchmarks/data/embedded.py": {"yaml"},
    "benchmarks/data/hub.py": {"huggingface_hub"},
    "benchmarks/data/mmlu.py": {"yaml"},
    "benchmarks/data/prepared.py": {"safetensors"},
    "benchmarks/models/identity.py": {"huggingface_hub"},
    "benchmarks/models/remote.py": {"huggingface_hub"},
    "benchmarks/offline/wheels.py": {"packaging"},
    "benchmarks/speed": {"badam", "numpy", "pytest", "pytest_benchmark"},  # badam: a rival, where it is installed
}
FILES = sorted(file for folder in ALLOWED for file in (ROOT / folder).rglob("*.py"))


def imported(source: str) -> Iterator[tuple[int, str]]:
    """(line, top-level package) of every import in a source text, inside functions too; "." for a relative one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." if node.level else (node.module or "").split(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("__import__", "importlib.import_module"):
            yield from ((node.lineno, str(a.value).split(".")[0]) for a in node.args[:1] if isinstance(a, ast.Constant))


def allowed(file: Path) -> set[str]:
    name = file.relative_to(ROOT).as_posix()
    folder = name.split("/")[0]
    further = set().union(*(more for place, more in FURTHER.items() if name == place or name.startswith(f"{place}/")))
    return {folder} | ALLOWED[folder] | further | set(sys.stdlib_module_names)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_a_file_imports_only_along_the_arrows(file):
    permitted = allowed(file)
    assert [f"line {line}: {name}" for line, name in imported(file.read_text()) if name not in permitted] == []


def test_every_package_of_the_repository_has_its_arrows():
    packages = {file.parent.name for file in ROOT.glob("*/__init__.py")}
    assert packages == set(ALLOWED) and all((ROOT / place).exists() for place in FURTHER)
    assert len(FILES) > 50


def test_the_arrows_have_no_circle_and_reports_never_meet_torch():
    rank = {"results": 0, "smoe": 0, "baselines": 1, "benchmarks": 2, "reports": 1}
    for folder, names in ALLOWED.items():
        assert all(rank[name] < rank[folder] for name in names & rank.keys())
    assert not {"torch", "transformers", "peft", "lm_eval"} & (ALLOWED["reports"] | ALLOWED["results"])


def test_two_files_alone_import_lm_eval():
    users = {f.relative_to(ROOT).as_posix() for f in FILES for _, name in imported(f.read_text()) if name == "lm_eval"}
    assert users == {"benchmarks/data/tasks.py", "benchmarks/jobs/evaluate.py"}


def test_the_walk_sees_imports_wherever_they_stand():
    source = "import a.b as c\ndef f():\n    from d.e import g\n    importlib.import_module('h.i')\nfrom . import j\n"
    assert sorted(imported(source)) == [(1, "a"), (3, "d"), (4, "h"), (5, ".")]


# Inside benchmarks/: a room or command -> the rooms that it may import beside its own; registry.py, and what
# a suite is (suites/__init__.py), are for all. Nobody imports offline, and compare.py alone the gate.
ROOMS = sorted(f.parent.name for f in (ROOT / "benchmarks").glob("*/__init__.py"))
FLOW = ["models", "data", "plan", "jobs"]  # each may import those before it
INNER = {
    **{room: set(FLOW[:i]) for i, room in enumerate(FLOW)},
    "suites": set(),
    "studies": {*FLOW, "speed"},  # its ratios
    "gate": {"jobs", "models", "plan"},  # replicate runs jobs
    "speed": set(FLOW),
    "offline": set(ROOMS) - {"gate"},
    "adapter.py": set(FLOW),
    "compare.py": {"gate"},
    "registry.py": {"suites"},
    "run.py": set(FLOW),
    "status.py": {"jobs"},
}
COMMANDS = {f"benchmarks.{name}" for name in ("__main__", "adapter", "compare", "run", "status", "study")}
MAX_LINES, MAX_FUNCTION, MAX_ENTRIES = 300, 60, 16


def module_file(name: str) -> Path | None:
    """The file of a module of this repository, or None."""
    place = ROOT.joinpath(*name.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


def modules_imported(file: Path) -> set[str]:
    """Dotted names of this repository's modules that a file imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}": node.module for alias in node.names}
            names |= {member if module_file(member) else module for member, module in members.items()}
    return {name for name in names if name.split(".")[0] in ALLOWED and module_file(name)}


def room_of(file: Path) -> str:
    """The room of benchmarks/ that a file lies in, or its own name beside the rooms."""
    return file.relative_to(ROOT / "benchmarks").parts[0]


@pytest.mark.parametrize("room", sorted({*ROOMS, *(f.name for f in (ROOT / "benchmarks").glob("*.py"))}))
def test_a_room_of_benchmarks_imports_only_along_the_inner_arrows(room):
    permitted = INNER.get(room, set()) | {room}
    files = [f for f in FILES if f.is_relative_to(ROOT / "benchmarks") and room_of(f) == room]
    named = {
        f: {n for n in modules_imported(f) if n.startswith("benchmarks.") and n != "benchmarks.suites"} for f in files
    }
    parts = {f: {name.split(".")[1] for name in names} for f, names in named.items()}
    assert (
        files and {f.name: (p & set(ROOMS)) - permitted for f, p in parts.items() if (p & set(ROOMS)) - permitted} == {}
    )


def test_no_file_imports_a_command_line():
    users = {f.relative_to(ROOT).as_posix(): modules_imported(f) & COMMANDS for f in FILES}
    assert {name: commands for name, commands in users.items() if commands} == {}


def test_no_module_is_reached_from_itself():
    graph = {file: {module_file(name) for name in modules_imported(file)} for file in FILES}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules of the circle


def test_no_file_and_no_function_is_too_long():
    long = {}
    for file in FILES:
        name, text = file.relative_to(ROOT).as_posix(), file.read_text()
        if (lines := len(text.splitlines())) > MAX_LINES:
            long[name] = lines
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and (n := node.end_lineno - node.lineno + 1) > MAX_FUNCTION:
                long[f"{name}:{node.name}"] = n
    assert long == {}


def test_a_folder_s_listing_reads_like_a_table_of_contents():
    beside = {"__init__.py", "__pycache__", "README.md", "py.typed", "scratch"}
    folders = {file.parent for file in FILES}
    counts = {f.relative_to(ROOT).as_posix(): sum(e.name not in beside for e in f.iterdir()) for f in folders}
    assert {name: n for name, n in counts.items() if n > MAX_ENTRIES} == {}
