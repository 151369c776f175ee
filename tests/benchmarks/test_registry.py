"""Discovery by folder."""

from __future__ import annotations

import os
import sys
from types import ModuleType

import pytest

from benchmarks import registry
from benchmarks.suite import Suite
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
    with pytest.raises(ValueError, match="SMOE_METHODS: no folder .*absent"):
        registry.methods()


def test_two_contestants_of_one_name_are_an_error(folder):
    (folder / "again.py").write_text(METHOD.format(name="lora"))
    with pytest.raises(ValueError, match="two entries are named 'lora'; the second is in .*again"):
        registry.methods()


def test_two_suites_of_one_name_are_an_error(monkeypatch):
    modules = []
    for file in ("first", "second"):
        module = ModuleType(file)
        module.S = Suite(name="same", summary="-", tasks=("a",), headline={"a": "acc"})
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
        Suite(name="s", summary="-", tasks=("a", "b"), headline={"a": "acc"})


def test_every_contestant_and_suite_says_what_it_is():
    for cls in registry.methods().values():
        assert cls.summary and cls.source
    for suite in registry.suites().values():
        assert suite.summary and suite.tasks
