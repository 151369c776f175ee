"""What a folder offers: every file of a package may define classes of one kind, found by their `name`."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


def found(package: ModuleType, kind: type[T]) -> dict[str, type[T]]:
    """Return the classes of that kind which have a name and lie in the package's files, by name.

    Raises ValueError for two of one name, and for one that lacks what its kind asks for.
    """
    classes: dict[str, type[T]] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda i: i.name):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for cls in vars(module).values():
            if not (inspect.isclass(cls) and issubclass(cls, kind) and cls.__module__ == module.__name__):
                continue
            if not (name := vars(cls).get("name")):
                continue  # a base of others
            if missing := [*sorted(getattr(cls, "__abstractmethods__", ())), *_lacking(cls)]:
                raise ValueError(f"{module.__name__}: class {cls.__name__} does not define {', '.join(missing)}")
            if name in classes:
                raise ValueError(f"two entries are named {name!r}; the second is in {module.__name__}")
            classes[name] = cls
    return dict(sorted(classes.items()))


def pick(kind: str, name: str, classes: dict[str, type[T]]) -> type[T]:
    """Return the class of that name. Raises ValueError with the nearest names."""
    if name not in classes:
        near = difflib.get_close_matches(name, classes, n=1)
        hint = f"; did you mean {near[0]}?" if near else ";"
        raise ValueError(f"unknown {kind} {name!r}{hint} known: {', '.join(classes)}")
    return classes[name]


def _lacking(cls: type) -> list[str]:
    return [attribute for attribute in ("summary", "source") if not hasattr(cls, attribute)]
