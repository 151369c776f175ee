"""Inside reports/ imports go one way: roster, frame <- analysis <- figures <- render <- options <- agree, __main__."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "reports"
RANK = {
    "roster": 0, "frame": 0, "analysis": 1, "figures": 2, "render": 3, "options": 4, "costs": 4, "studies": 4,
    "exports": 4, "agree": 5, "__main__": 6,
}  # fmt: skip
FILES = sorted(ROOT.rglob("*.py"))


def rooms_imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "reports":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("reports."):
            names.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("reports.")}
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_a_file_imports_only_what_lies_below_it(file):
    room = file.relative_to(ROOT).parts[0].removesuffix(".py")
    assert [name for name in rooms_imported(file) if RANK[name] > RANK.get(room, 0)] == []


def test_every_room_has_its_rank():
    rooms = {p.name for p in ROOT.iterdir() if (p / "__init__.py").is_file()} | {p.stem for p in ROOT.glob("*.py")}
    assert rooms - {"__init__"} <= RANK.keys() and len(FILES) > 30
