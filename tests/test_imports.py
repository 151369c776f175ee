"""Who may import whom: the arrows of the house plan, walked in every source file."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DRAWING = {"matplotlib", "rich", "typer"}
ALLOWED = {
    "smoe": {"aenum", "peft", "torch", "transformers"},
    "baselines": {"peft", "smoe", "torch"},
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
    "smoe/__main__.py": DRAWING,
    "smoe/heatmap.py": DRAWING,
    "benchmarks/data/tasks.py": {"lm_eval"},
    "benchmarks/jobs/evaluate.py": {"lm_eval"},
    "benchmarks/gate/relative.py": {"numpy", "scipy"},
    "results/table.py": {"rich"},  # inside the one function that renders for the terminal
    "benchmarks/data/embedded.py": {"yaml"},
    "benchmarks/data/hub.py": {"huggingface_hub"},
    "benchmarks/data/mmlu.py": {"yaml"},
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
            if node.args and isinstance(node.args[0], ast.Constant):
                yield node.lineno, str(node.args[0].value).split(".")[0]


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


def test_the_gate_imports_nothing_else_of_benchmarks_and_compare_alone_imports_the_gate():
    modules = {
        file.relative_to(ROOT).as_posix(): {
            name
            for node in ast.walk(ast.parse(file.read_text()))
            for name in (
                [node.module or ""] if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            )
        }
        for file in (ROOT / "benchmarks").rglob("*.py")
    }  # fmt: skip
    gate = {file: names for file, names in modules.items() if file.startswith("benchmarks/gate/")}
    others = {name for names in gate.values() for name in names if name.split(".")[0] == "benchmarks"}
    assert others and all(name.startswith("benchmarks.gate") for name in others)
    users = {f for f, names in modules.items() if f not in gate and any("benchmarks.gate" in n for n in names)}
    assert users == {"benchmarks/compare.py"}


def test_the_walk_sees_imports_wherever_they_stand():
    source = "import a.b as c\ndef f():\n    from d.e import g\n    importlib.import_module('h.i')\nfrom . import j\n"
    assert sorted(imported(source)) == [(1, "a"), (3, "d"), (4, "h"), (5, ".")]


# Inside benchmarks/: a room -> the rooms that it may not import. Nobody imports what is for offline nodes.
ROOMS = sorted(f.parent.name for f in (ROOT / "benchmarks").glob("*/__init__.py"))
CLOSED = {
    "models": {"data", "gate", "jobs", "plan", "speed", "studies"},
    **{room: {"gate", "speed", "studies"} for room in ("data", "plan", "jobs")},
}


def rooms_imported(file: Path) -> set[str]:
    """Rooms of benchmarks/ that a file imports from, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "benchmarks":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("benchmarks."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("benchmarks.")}
    return names & set(ROOMS)


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "offline"])
def test_a_room_of_benchmarks_imports_none_that_is_closed_to_it(room):
    closed = CLOSED.get(room, set()) | {"offline"}
    files = (ROOT / "benchmarks" / room).rglob("*.py")
    assert {f.name: rooms_imported(f) & closed for f in files if rooms_imported(f) & closed} == {}


def test_no_command_beside_the_rooms_imports_offline_and_compare_alone_imports_the_gate():
    users = {f.name: rooms_imported(f) for f in (ROOT / "benchmarks").glob("*.py")}
    assert [name for name, rooms in users.items() if "offline" in rooms] == []
    assert [name for name, rooms in users.items() if "gate" in rooms] == ["compare.py"]
