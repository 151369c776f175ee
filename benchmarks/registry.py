"""Discovery by folder: every file of a folder may define contestants or suites; two of one name is an error.

A new method is one new file in `baselines/methods/`, a new suite one new file in `benchmarks/suites/`. Folders named in
`SMOE_METHODS` (separated like PATH) are searched as well, so that a contestant can live outside this repository. A
contestant that cannot be used stops nobody else: `broken` says why, and asking for it by name raises that.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import os
import pkgutil
import re
import sys
import typing
import zlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import baselines.methods
import benchmarks.suites
from baselines.fields import alternatives
from baselines.generic.tuner import PREFIX, tuner
from baselines.method import Method
from benchmarks.suites import Suite
from results.names import pick

T = TypeVar("T")
Load = Callable[[], ModuleType]


def methods() -> dict[str, type[Method]]:
    """Return every contestant that can be used, by name."""
    return _contestants()[0]


def broken() -> dict[str, str]:
    """Return why each contestant that cannot be used cannot: its name -> file, class and reason."""
    return _contestants()[1]


def method(name: str) -> type[Method]:
    """Return the contestant of that name, or of a type of PEFT's as in "peft:RANDLORA".

    Raises ValueError: what is wrong with it, or the nearest names.
    """
    if name.startswith(PREFIX):
        return tuner(name.removeprefix(PREFIX))
    usable, unusable = _contestants()
    if name in unusable:
        raise ValueError(f"method {name!r} cannot be used: {unusable[name]}")
    return pick("method", name, usable)


def content(name: str) -> str | None:
    """Return 12 hex over the file of a contestant from `SMOE_METHODS`; None for one of this repository."""
    if name.startswith(PREFIX):
        return None
    module = sys.modules[method(name).__module__]
    if module.__name__.startswith(f"{baselines.methods.__name__}."):
        return None
    return hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()[:12]


def _contestants() -> tuple[dict[str, type[Method]], dict[str, str]]:
    usable: dict[str, type[Method]] = {}
    unusable: dict[str, str] = {}
    for file, load in (*_files(baselines.methods), *_outside("SMOE_METHODS")):
        try:
            module = load()
        except Exception as error:  # whatever a file of someone else's raises
            reason = f"{file}: {type(error).__name__}: {error}"
            unusable |= dict.fromkeys(_names_in(file), reason)
            continue
        for cls in vars(module).values():
            if inspect.isclass(cls) and issubclass(cls, Method) and cls.__module__ == module.__name__:
                if not hasattr(cls, "name"):
                    continue  # a base of contestants
                if fault := _fault(cls):
                    unusable[cls.name] = f"{file}: class {cls.__name__}: {fault}"
                else:
                    _add(usable, cls.name, cls, module)
    return dict(sorted(usable.items())), dict(sorted(unusable.items()))


@cache  # asked for with every name
def _fault(cls: type[Method]) -> str | None:
    """Say what keeps a class from being a contestant; None where nothing does."""
    if missing := sorted(cls.__abstractmethods__):
        return f"it does not define {', '.join(missing)}"
    if "__dataclass_fields__" not in vars(cls):
        return "it is no dataclass of its own: put @dataclass(frozen=True, kw_only=True) above it"
    if missing := [name for name in ("summary", "source") if not hasattr(cls, name)]:
        return f"it lacks {', '.join(missing)}"
    try:
        hints = typing.get_type_hints(cls)
    except Exception as error:  # an annotation is code
        return f"its annotations cannot be read: {error}"
    fields = dataclasses.fields(cls)
    if required := [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]:
        return f"it has no default for {', '.join(required)}"
    for field in fields:
        if not _fits(field.default, hints[field.name]):
            kind = getattr(field.type, "__name__", field.type)
            return f"the default of {field.name}, {field.default!r}, is no {kind}"
    try:
        cls()
    except Exception as error:  # its own checks
        return f"its defaults are refused: {error}"
    return None


def _fits(value: object, hint: object) -> bool:
    """Tell whether a default is what its hint says, for hints of int, float, bool, str and None alone."""
    options = alternatives(hint)
    if value is dataclasses.MISSING or not all(o in (int, float, bool, str, type(None)) for o in options):
        return True
    return type(value) in options or (type(value) is int and float in options)


def _names_in(file: Path) -> list[str]:
    """Return the names that a file which cannot be imported gives its contestants; its own name where none is seen."""
    text = file.read_text(encoding="utf-8", errors="replace")
    return re.findall(r"""^\s+name\b[^=\n]*=\s*["']([^"']+)["']""", text, re.MULTILINE) or [file.stem.replace("_", "-")]


def suites() -> dict[str, Suite]:
    """Every suite by name."""
    entries: dict[str, Suite] = {}
    for module in _package(benchmarks.suites):
        for value in vars(module).values():
            if isinstance(value, Suite):
                _add(entries, value.name, value, module)
    return dict(sorted(entries.items()))


def _package(package: ModuleType) -> Iterator[ModuleType]:
    yield from (load() for _, load in _files(package))


def _files(package: ModuleType) -> Iterator[tuple[Path, Load]]:
    """Yield each module of a package and of those inside it as its file and what imports it."""
    (folder,) = package.__path__
    for info in sorted(pkgutil.iter_modules([folder]), key=lambda i: i.name):
        name = f"{package.__name__}.{info.name}"
        if info.ispkg:
            yield from _files(importlib.import_module(name))
        else:
            yield Path(folder) / f"{info.name}.py", partial(importlib.import_module, name)


def _outside(variable: str) -> Iterator[tuple[Path, Load]]:
    for folder in map(Path, filter(None, os.environ.get(variable, "").split(os.pathsep))):
        if not folder.is_dir():
            raise ValueError(f"{variable}: no folder {folder}")
        for file in sorted(folder.resolve().glob("*.py")):
            folder_id = f"{zlib.crc32(bytes(file.parent)):08x}"  # two folders may hold files of one name
            yield file, partial(_import_file, f"{variable.lower()}_{folder_id}_{file.stem}", file)


def _import_file(name: str, file: Path) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None and spec.loader is not None  # a .py file always has both
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up while the class is made
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _add(entries: dict[str, T], name: str, value: T, module: ModuleType) -> None:
    if name in entries and entries[name] is not value:
        raise ValueError(f"two entries are named {name!r}; the second is in {module.__name__}")
    entries[name] = value
