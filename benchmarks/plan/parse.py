"""What people type, as values: methods with settings, seeds, and revisions of data sets."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from baselines.fields import BOUNDS, alternatives, sentence, unknown_field
from baselines.generic.tuner import PREFIX
from baselines.method import Method
from benchmarks import registry
from benchmarks.plan.generic import generic
from results.names import pick

MAIN = ("frozen", "lora", "molora", "adalora", "lora-smoe")  # the methods of a run that names none
CONTROLS = ("lora-own", "random-experts", "inverse-experts")  # LoRA in the mixtures' layer, and allocations by chance
PEFT = tuple(
    f"peft:type={kind}" for kind in "HIRA SHIRA MISS:init_weights=bat GRALORA OFT RANDLORA LILY LOKR IA3 VERA".split()
)  # of PEFT's own comparison on MetaMathQA
SETS: Mapping[str, Callable[[], Iterable[str]]] = {
    "main": lambda: MAIN,
    "controls": lambda: CONTROLS,
    "peft": lambda: PEFT,
    "all": registry.methods,  # every contestant, at its own settings
}


def parse_methods(text: str | None) -> list[Method]:
    """Return the methods of a text like "lora:r=16:alpha=32,molora" or "@main,@controls,dora".

    A method that two sets share is one. Raises ValueError that says what is known.
    """
    items = [item.strip() for item in (text.split(",") if text is not None else ("@main",))]
    named = [repr(_method(item)) for item in items if not item.startswith("@")]
    if len(set(named)) != len(named):
        raise ValueError(f"methods {text!r} names one twice")
    sets = {item: pick("set of methods", item[1:], SETS)() for item in items if item.startswith("@")}
    methods = [_method(name) for item in items for name in sets.get(item, (item,))]
    return list({repr(method): method for method in methods}.values())


def parse_seeds(text: str | None, count: int) -> list[int]:
    """Return the seeds of a text like "0,1,5" or "0-4"; the first `count` for None. Raises ValueError."""
    if text is None:
        return list(range(count))
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"seeds {text!r}: expected numbers like 0,1,2 or a range like 0-4")
        seeds += range(int(first), int(last if dash else first) + 1)
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds {text!r} must name at least one, each once")
    return seeds


def parse_revisions(text: str | None) -> dict[str, str]:
    """Return commits by data set of a text like "cais/mmlu=0123abc,nyu-mll/glue=4567def". Raises ValueError."""
    commits = {}
    for item in text.split(",") if text is not None else ():
        path, _, commit = (part.strip() for part in item.partition("="))
        if not path or not commit:
            raise ValueError(f"revision {item!r}: expected DATASET=COMMIT, as in cais/mmlu=0123abc")
        commits[path] = commit
    return commits


def _method(item: str) -> Method:
    """Return the method of one item, as in "lora:r=16:alpha=32"."""
    name, *settings = item.split(":")
    if name == PREFIX.removesuffix(":"):
        return generic(item)
    cls = registry.method(name)
    names = [f.name for f in dataclasses.fields(cls)]
    plain, hints = typing.get_type_hints(cls), typing.get_type_hints(cls, include_extras=True)
    values: dict[str, Any] = {}
    for setting in settings:
        field, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"{item!r}: expected NAME:FIELD=VALUE, found {setting!r}")
        if field not in names:
            raise unknown_field(name, field, names)
        if field in values:
            raise ValueError(f"{item!r}: {field} is set twice")
        values[field] = _value(value, hints[field], plain[field], name, field)
    for group in cls.one_of:
        if values.keys() & set(group):  # what is named stands in the place of the default
            values = dict.fromkeys(group) | values
    return cls(**values)


def _value(text: str, hint: Any, plain: Any, method: str, field: str) -> Any:
    """Return `text` as the field's type; "none" is None where that is allowed, and "+" separates what is several.

    hint, plain: the field's type with its bounds, and without.
    """
    options = alternatives(plain)
    if text.lower() == "none" and type(None) in options:
        return None
    value = text.split("+") if any(typing.get_origin(option) is tuple for option in options) else text
    try:
        return TypeAdapter(hint, config=ConfigDict(allow_inf_nan=False)).validate_python(value)
    except ValidationError as error:
        if error.errors()[0]["type"] in (*BOUNDS, "literal_error"):
            raise sentence(error, method, field) from None
    names = " or ".join(getattr(option, "__name__", str(option)) for option in options)
    raise ValueError(f"{method}:{field}: {text!r} is not {names}")
