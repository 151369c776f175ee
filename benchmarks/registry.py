"""Discovery by folder: every file of a folder may define contestants or suites; two of one name is an error.

A new method is one new file in `baselines/methods/`, a new suite one new file in `benchmarks/suites/`. Folders named in
`SMOE_METHODS` (separated like PATH) are searched as well, so that a contestant can live outside this repository.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import pkgutil
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import baselines.methods
import benchmarks.suites
from baselines.method import Method
from benchmarks.suite import Suite

T = TypeVar("T")


def methods() -> dict[str, type[Method]]:
    """Every contestant by name."""
    found: dict[str, type[Method]] = {}
    for module in (*_package(baselines.methods), *_outside("SMOE_METHODS")):
        for cls in vars(module).values():
            if inspect.isclass(cls) and issubclass(cls, Method) and cls.__module__ == module.__name__:
                if hasattr(cls, "name") and not inspect.isabstract(cls):
                    _add(found, cls.name, cls, module)
    return dict(sorted(found.items()))


def suites() -> dict[str, Suite]:
    """Every suite by name."""
    found: dict[str, Suite] = {}
    for module in _package(benchmarks.suites):
        for value in vars(module).values():
            if isinstance(value, Suite):
                _add(found, value.name, value, module)
    return dict(sorted(found.items()))


def _package(package: ModuleType) -> Iterator[ModuleType]:
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda i: i.name):
        yield importlib.import_module(f"{package.__name__}.{info.name}")


def _outside(variable: str) -> Iterator[ModuleType]:
    for folder in map(Path, filter(None, os.environ.get(variable, "").split(os.pathsep))):
        if not folder.is_dir():
            raise ValueError(f"{variable}: no folder {folder}")
        for file in sorted(folder.resolve().glob("*.py")):
            folder_id = f"{zlib.crc32(bytes(file.parent)):08x}"  # two folders may hold files of one name
            name = f"{variable.lower()}_{folder_id}_{file.stem}"
            if name not in sys.modules:
                spec = importlib.util.spec_from_file_location(name, file)
                assert spec is not None and spec.loader is not None  # a .py file always has both
                module = importlib.util.module_from_spec(spec)
                sys.modules[name] = module  # dataclasses look their module up while the class is made
                spec.loader.exec_module(module)
            yield sys.modules[name]


def _add(found: dict[str, T], name: str, value: T, module: ModuleType) -> None:
    if name in found and found[name] is not value:
        raise ValueError(f"two entries are named {name!r}; the second is in {module.__name__}")
    found[name] = value
