"""The README's tree names every source file, with the first line of its docstring, so that it cannot go stale.

`python tests/test_readme.py` rewrites it.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- tree:begin -->\n", "<!-- tree:end -->\n"
WIDTH = 84  # a longer comment is cut at its first colon, semicolon or comma
FOLDERS = ("smoe", "baselines", "benchmarks", "results", "reports", "examples")


def tree() -> str:
    lines = []
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*.py"), key=lambda p: (p.parent, p.name != "__init__.py", p.name)):
            doc = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
            sentence = re.split(r"(?<! al)\. ", " ".join(doc.split("\n\n")[0].split()))[0].rstrip(".:")
            comment = sentence if len(sentence) <= WIDTH else re.split(r"[:;,] ", sentence)[0]
            lines.append(f"    {file.relative_to(ROOT).as_posix():36} {comment}")
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def split_readme() -> tuple[str, str, str]:
    before, rest = (ROOT / "README.md").read_text(encoding="utf-8").split(BEGIN)
    shown, after = rest.split(END)
    return before, shown, after


def test_the_readme_shows_every_source_file_with_its_purpose() -> None:
    assert split_readme()[1] == tree(), "run: python tests/test_readme.py"


def test_every_source_file_says_why_it_exists() -> None:
    assert all(len(line.split(maxsplit=1)) == 2 for line in tree().splitlines() if line.strip())


def test_the_readme_shows_all_of_the_example_of_a_task_of_ones_own() -> None:
    shown = re.findall(r"```yaml\n(.*?)```", split_readme()[0], flags=re.DOTALL)
    assert shown == [(ROOT / "examples/own_task/opposites.yaml").read_text(encoding="utf-8")]


if __name__ == "__main__":
    before, _, after = split_readme()
    (ROOT / "README.md").write_text(before + BEGIN + tree() + END + after, encoding="utf-8")
