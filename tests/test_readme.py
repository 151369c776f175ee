"""The README's tree and sample output are made from the files themselves, so that neither can go stale.

`python tests/test_readme.py` rewrites both.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
TREE = ("<!-- tree:begin -->\n", "<!-- tree:end -->\n")
OUTPUT = ("<!-- output:begin -->\n", "<!-- output:end -->\n")
WIDTH = 88  # a longer comment is cut at its first colon, semicolon or comma
FOLDERS = ("smoe", "baselines", "benchmarks", "results", "reports")
KEY_FILES = (  # beside the folders: where a reader begins
    "smoe/sensitivity.py", "smoe/allocation.py", "smoe/layer.py", "baselines/method.py", "benchmarks/run.py",
    "benchmarks/jobs/job.py", "results/record.py", "results/comparable.py", "reports/frame.py",
    "examples/finetune_with_trainer.py", "tests/house.py",
)  # fmt: skip
MAIN = ("frozen", "lora", "molora", "adalora", "lora-smoe")


def comment(file: Path) -> str:
    doc = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    sentence = re.split(r"(?<! al)\. ", " ".join(doc.split("\n\n")[0].split()))[0].rstrip(".:")
    return sentence if len(sentence) <= WIDTH else re.split(r"[:;,] ", sentence)[0]


def tree() -> str:
    """Every package with what its `__init__.py` says, and the key files; the packages' READMEs have their folders."""
    lines = []
    for name in sorted({*(f"{folder}/" for folder in FOLDERS), *KEY_FILES}):
        file = ROOT / name / "__init__.py" if name.endswith("/") else ROOT / name
        lines.append(f"    {name:34} {comment(file)}")
    return "\n".join(lines) + "\n"


def output() -> str:
    """The table that the default run prints, from its committed records."""
    from typer.testing import CliRunner

    from benchmarks import registry
    from reports.__main__ import app
    from results.store import RECORDS, Store

    version = registry.suites()["commonsense"].version
    wanted = {"suite": "commonsense", "suite_version": version, "train_documents": 320, "match": "none", "seed": 0}
    wanted["split"] = "evaluation"
    own = {"mean_experts": 4.0, "probe_documents": 8}
    records = Store(RECORDS).all()
    keys = [
        record.key
        for method in MAIN
        for record in records
        if record.spec.method == method
        and all(getattr(record.spec, name) == value for name, value in wanted.items())
        and all({**record.spec.hyperparameters, **record.spec.to_json()}.get(n, v) in (v, None) for n, v in own.items())
    ]
    shown = CliRunner().invoke(app, ["show", "--keys", ",".join(keys), "--width", "138"])
    assert shown.exit_code == 0 and len(keys) == len(MAIN), shown.output
    lines = [line.rstrip() for line in shown.output.splitlines()]
    table = [line for line in lines[: lines.index(next(x for x in lines if x.startswith("Data:")))] if line.strip()]
    return "\n".join(["```text", *table[: 4 + len(MAIN)], "```"]) + "\n"  # what each task gave follows there


def block(markers: tuple[str, str]) -> str:
    text = README.read_text(encoding="utf-8")
    return text[text.index(markers[0]) + len(markers[0]) : text.index(markers[1])]


def test_the_readme_shows_every_package_and_the_key_files_with_their_purpose() -> None:
    assert block(TREE) == tree(), "run: python tests/test_readme.py"


def test_the_readme_of_a_package_names_all_of_its_folders() -> None:
    missing = {
        f"{package}/README.md: {folder.name}/"
        for package in FOLDERS
        for folder in (f.parent for f in (ROOT / package).glob("*/__init__.py"))
        if f"{folder.name}/" not in (ROOT / package / "README.md").read_text(encoding="utf-8")
    }
    assert missing == set()


def test_the_readme_is_short_beside_what_is_generated() -> None:
    text = README.read_text(encoding="utf-8")
    results = text[text.index("<!-- results:begin") : text.index("<!-- results:end")]
    card = text[text.index("<!-- card:begin") : text.index("<!-- card:end")]
    generated = [block(TREE), block(OUTPUT), results, card]
    assert len(text.splitlines()) - sum(len(part.splitlines()) for part in generated) <= 125


def test_the_readme_shows_what_the_default_run_prints() -> None:
    assert block(OUTPUT) == output(), "run: python tests/test_readme.py"


def test_every_source_file_says_why_it_exists() -> None:
    files = [file for name in FOLDERS for file in (ROOT / name).rglob("*.py")]
    assert len(files) > 100 and [str(file) for file in files if not comment(file)] == []


def test_the_folder_of_the_runs_shows_all_of_the_example_of_a_task_of_ones_own() -> None:
    shown = re.findall(
        r"```yaml\n(.*?)```", (ROOT / "benchmarks/README.md").read_text(encoding="utf-8"), flags=re.DOTALL
    )
    assert (ROOT / "examples/own_task/opposites.yaml").read_text(encoding="utf-8") in shown


def test_every_link_of_every_readme_leads_somewhere() -> None:
    broken = []
    for file in [*ROOT.glob("*.md"), *(f for name in FOLDERS for f in (ROOT / name).rglob("README.md"))]:
        broken += [
            f"{file.relative_to(ROOT)}: {target}"
            for target in re.findall(r"\]\(([^)#\s]+)", file.read_text(encoding="utf-8"))
            if "://" not in target and not (file.parent / target).exists()
        ]
    assert broken == []


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    text = README.read_text(encoding="utf-8")
    for markers, fresh in ((TREE, tree()), (OUTPUT, output())):
        start, end = text.index(markers[0]) + len(markers[0]), text.index(markers[1])
        text = text[:start] + fresh + text[end:]
    README.write_text(text, encoding="utf-8")
