"""Discovery by folder."""

from __future__ import annotations

import os
import sys
from types import ModuleType

import pytest

from benchmarks import registry
from benchmarks.plan.parse import parse_methods
from benchmarks.run import print_list
from benchmarks.suites import Suite
from results.names import pick

METHOD = """
from dataclasses import dataclass
from typing import ClassVar
from baselines.methods.references import Frozen

@dataclass(frozen=True, kw_only=True)
class Another(Frozen):
    name: ClassVar[str] = "{name}"
    summary: ClassVar[str] = "for a test"
    source: ClassVar[str] = "-"
    strength: float = 0.5
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of contestants outside the repository, forgotten again after the test."""
    known = set(sys.modules)
    monkeypatch.setenv("SMOE_METHODS", str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.startswith("smoe_methods_"):
            del sys.modules[name]


def test_a_contestant_in_one_new_file_is_found_and_can_be_asked_for(folder):
    before = registry.methods()
    (folder / "another.py").write_text(METHOD.format(name="another"))
    found = registry.methods()
    assert found.keys() - before.keys() == {"another"}
    assert found["another"](strength=0.25).strength == 0.25
    assert list(found) == sorted(found)


def test_several_folders_are_searched(folder, tmp_path_factory, monkeypatch):
    other = tmp_path_factory.mktemp("other")
    (folder / "one.py").write_text(METHOD.format(name="one"))
    (other / "two.py").write_text(METHOD.format(name="two"))
    monkeypatch.setenv("SMOE_METHODS", os.pathsep.join([str(folder), str(other)]))
    assert {"one", "two"} <= registry.methods().keys()


def test_folders_may_hold_files_of_one_name(folder, tmp_path_factory, monkeypatch):
    other = tmp_path_factory.mktemp("other")
    (folder / "mine.py").write_text(METHOD.format(name="one"))
    (other / "mine.py").write_text(METHOD.format(name="two"))
    monkeypatch.setenv("SMOE_METHODS", os.pathsep.join([str(folder), str(other)]))
    assert {"one", "two"} <= registry.methods().keys()


def test_a_folder_that_does_not_exist_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("SMOE_METHODS", str(tmp_path / "absent"))
    with pytest.raises(ValueError, match=r"SMOE_METHODS: no folder .*absent"):
        registry.methods()


def test_two_contestants_of_one_name_are_an_error(folder):
    (folder / "again.py").write_text(METHOD.format(name="lora"))
    with pytest.raises(ValueError, match=r"two entries are named 'lora'; the second is in .*again"):
        registry.methods()


WHOLE = METHOD.format(name="broken")
BROKEN = {
    "a file with a syntax error": (WHOLE + "    def (", "SyntaxError"),
    "a file that imports what is not there": ("import nowhere_at_all\n" + WHOLE, "No module named 'nowhere_at_all'"),
    "a list as a default": (WHOLE.replace("float = 0.5", "list = []"), "mutable default .* for field strength"),
    "a default of another type": (WHOLE.replace("0.5", "'much'"), "class Another: the default of strength, 'much'"),
    "a default that the class itself refuses": (
        WHOLE + "    def __post_init__(self):\n        raise ValueError('strength 0.5 must be 1')\n",
        "class Another: its defaults are refused: strength 0.5 must be 1",
    ),
    "an annotation of a name that is not there": (WHOLE.replace("float", "Flaot"), "Flaot"),
    "no dataclass": (WHOLE.replace("@dataclass(frozen=True, kw_only=True)", ""), "class Another: it is no dataclass"),
    "no attach": (
        WHOLE.replace("Frozen)", "Method)").replace("methods.references import Frozen", "method import Method"),
        "class Another: it does not define attach",
    ),
    "no summary": (
        WHOLE.replace("Frozen)", "Method)").replace("methods.references import Frozen", "method import Method")
        .replace("    summary", "    unused") + "    def attach(self, model, probe, total_steps): ...\n",
        "class Another: it lacks summary",
    ),
}  # fmt: skip


@pytest.mark.parametrize("source", BROKEN)
def test_a_broken_contestant_is_named_with_its_file_and_stops_nobody_else(folder, source, capsys):
    text, reason = BROKEN[source]
    (folder / "odd_file.py").write_text(text)
    (folder / "whole.py").write_text(METHOD.format(name="whole"))
    assert {"whole", "lora"} <= registry.methods().keys() and "broken" not in registry.methods()
    with pytest.raises(ValueError, match=f"method 'broken' cannot be used: .*odd_file.py: .*{reason}"):
        parse_methods("lora,broken")
    assert [m.name for m in parse_methods("lora,whole")] == ["lora", "whole"]
    print_list()
    assert f"broken             cannot be used: {folder / 'odd_file.py'}: " in capsys.readouterr().out


def test_a_file_that_is_mended_is_read_anew(folder):
    (folder / "odd_file.py").write_text("def (")
    assert list(registry.broken()) == ["odd-file"]
    (folder / "odd_file.py").write_text(METHOD.format(name="mended"))
    assert "mended" in registry.methods() and not registry.broken()


def test_no_contestant_of_the_repository_is_broken():
    assert registry.broken() == {}


def test_two_suites_of_one_name_are_an_error(monkeypatch):
    modules = []
    for file in ("first", "second"):
        module = ModuleType(file)
        module.S = Suite(name="same", version="1", summary="-", tasks=("a",), headline={"a": "acc"})
        modules.append(module)
    monkeypatch.setattr(registry, "_package", lambda package: iter(modules))
    with pytest.raises(ValueError, match="two entries are named 'same'; the second is in second"):
        registry.suites()


@pytest.mark.parametrize(("name", "hint"), [("lora-smo", "lora-smoe"), ("adalor", "adalora"), ("LORA", "known: ")])
def test_an_unknown_name_lists_the_nearest_or_all(name, hint):
    with pytest.raises(ValueError, match=f"unknown method '{name}'; .*{hint}"):
        pick("method", name, registry.methods())


def test_a_suite_without_a_headline_metric_for_a_task_is_refused():
    with pytest.raises(ValueError, match="suite s: headline metrics and tasks differ"):
        Suite(name="s", version="1", summary="-", tasks=("a", "b"), headline={"a": "acc"})


def test_every_contestant_and_suite_says_what_it_is():
    for cls in registry.methods().values():
        assert cls.summary and cls.source
    for suite in registry.suites().values():
        assert suite.summary and suite.tasks
