"""Tuners of PEFT as people name them: `peft:type=RANDLORA:r=32`, `peft:folder=DIR`, a folder of folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from baselines.generic import config
from baselines.generic.tuner import PeftTuner, tuner


def generic(item: str) -> PeftTuner:
    """Return the tuner of a text. Raises ValueError for a type, a field or a folder that there is not.

    Values are JSON (numbers, true, null) or else texts; "+" separates what is several. Settings beside a folder stand
    in the place of its own.
    """
    values: dict[str, Any] = {}
    for setting in item.split(":")[1:]:
        field, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"{item!r}: expected peft:type=TYPE:FIELD=VALUE or peft:folder=DIR, found {setting!r}")
        if field in values:
            raise ValueError(f"{item!r}: {field} is set twice")
        values[field] = value if field in ("type", "folder") else _value(value)
    kind, folder = values.pop("type", None), values.pop("folder", None)
    if (kind is None) == (folder is None):
        raise ValueError(f"{item!r}: expected one of peft:type=TYPE and peft:folder=DIR")
    if folder is not None:
        return of_folder(Path(folder).expanduser(), **values)[0]
    return tuner(str(kind).upper())(**values)


def of_folder(folder: Path, **values: Any) -> tuple[PeftTuner, float | None]:
    """Return the tuner of a folder, on its own targets unless told otherwise, and the learning rate it came with."""
    kind, settings, rate = config.of_folder(folder)
    if values.get("targets") == "suite":
        settings.pop("target_modules", None)
    return tuner(kind)(**{"targets": "own", **settings, **values}), rate


def all_of(root: str) -> list[PeftTuner]:
    """Return the tuner of every folder below one, each content once."""
    made = [of_folder(folder)[0] for folder in config.folders(Path(root).expanduser())]
    return [m for i, m in enumerate(made) if m not in made[:i]]


def published_rates(root: str) -> dict[str, float]:
    """Return the rate of each tuner below a folder that came with one, by the tuner's text."""
    pairs = [of_folder(folder) for folder in config.folders(Path(root).expanduser())]
    return {repr(method): rate for method, rate in pairs if rate is not None}


def _value(text: str) -> Any:
    if "+" in text:
        return [_value(part) for part in text.split("+")]
    if text.lower() in ("none", "true", "false"):
        return {"none": None, "true": True, "false": False}[text.lower()]
    try:
        return json.loads(text)
    except ValueError:
        return text
