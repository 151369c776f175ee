"""What pydantic finds wrong with a field, in one sentence: the value, what is allowed, and the nearest name."""

from __future__ import annotations

import functools
import re
from typing import Any, TypeVar

from pydantic import ValidationError

from results.names import unknown

T = TypeVar("T")
BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}


def in_one_sentence(cls: type[T]) -> type[T]:
    """Decorate a pydantic dataclass: what its fields refuse is raised as a ValueError of one sentence."""
    checked = cls.__init__

    @functools.wraps(checked)
    def init(self: Any, *args: Any, **fields: Any) -> None:
        try:
            checked(self, *args, **fields)
        except ValidationError as error:
            raise sentence(error) from None

    cls.__init__ = init  # type: ignore[method-assign]
    return cls


def sentence(error: ValidationError, owner: str = "", field: str = "") -> ValueError:
    """Return the error to raise for the first field that is refused.

    owner: of the fields, as in "lora: r 0 must be above 0"; field: where the error itself does not name it.
    """
    first = error.errors(include_url=False)[0]
    field = field or str(first["loc"][0])
    start = f"{owner}: " if owner else ""
    value, context = first["input"], first.get("ctx", {})
    if first["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        return unknown(f"{field} of {owner}" if owner else field, str(value), choices)
    if first["type"] == "unexpected_keyword_argument":
        return ValueError(f"{start}no field is named {field!r}")
    if first["type"] in BOUNDS:
        word, bound = BOUNDS[first["type"]]
        return ValueError(f"{start}{field} {value} must be {word} {context[bound]:g}")
    if first["type"] == "value_error":
        return ValueError(str(context["error"]))
    reason = first["msg"].removeprefix("Input should be ").removeprefix("a ").removeprefix("valid ")
    return ValueError(f"{start}{field} {value!r}: expected {reason}")
