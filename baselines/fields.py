"""Types, bounds and choices that stand on a field, and what pydantic finds wrong with one, in one sentence.

For the hyperparameters of methods and for requests. The nearest names come from results/names.py, which knows no torch.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import types
import typing
from collections.abc import Iterable
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from results.names import unknown

T = TypeVar("T")
Positive: TypeAlias = Annotated[T, Field(gt=0)]
NotNegative: TypeAlias = Annotated[T, Field(ge=0)]
Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]
ProperFraction: TypeAlias = Annotated[float, Field(ge=0, lt=1)]  # 1 is none
CHECKED = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True)
BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}


def in_one_sentence(cls: type[T]) -> type[T]:
    """Decorate a pydantic dataclass: what its fields refuse is raised as a ValueError of one sentence.

    The sentence begins with the class's `name` where it has one, as methods have.
    """
    checked = cls.__init__

    @functools.wraps(checked)
    def init(self: Any, *args: Any, **values: Any) -> None:
        try:
            checked(self, *args, **values)
        except ValidationError as error:
            names = [f.name for f in dataclasses.fields(self)]
            raise sentence(error, getattr(self, "name", ""), names=names) from None

    cls.__init__ = init  # type: ignore[method-assign]
    return cls


def sentence(error: ValidationError, owner: str = "", field: str = "", names: Iterable[str] = ()) -> ValueError:
    """Return the error to raise for the first field that is refused.

    owner: of the fields, as in "lora: r 0 must be above 0"; field: where the error itself does not name it; names: of
    all fields, the nearest of which is named where there is none of that name.
    """
    first = error.errors(include_url=False)[0]
    if first["type"] == "value_error":  # of the class's own checks
        return ValueError(str(first["ctx"]["error"]))
    field = field or str(first["loc"][0])
    start = f"{owner}: " if owner else ""
    value, context = first["input"], first.get("ctx", {})
    if first["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        return unknown(f"{field} of {owner}" if owner else field, str(value), choices)
    if first["type"] == "unexpected_keyword_argument":
        return unknown_field(owner, field, names)
    if first["type"] == "unexpected_positional_argument":
        return ValueError(f"{start}{value!r} has no name; fields are set by name: {', '.join(names)}")
    if first["type"] in BOUNDS:
        word, bound = BOUNDS[first["type"]]
        return ValueError(f"{start}{field} {value} must be {word} {context[bound]:g}")
    reason = first["msg"].removeprefix("Input should be ").removeprefix("a ").removeprefix("valid ")
    return ValueError(f"{start}{field} {value!r}: expected {reason}")


def alternatives(plain: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the one type that is none; plain: without bounds, as get_type_hints gives it."""
    return typing.get_args(plain) if typing.get_origin(plain) in (types.UnionType, typing.Union) else (plain,)


def unknown_field(owner: str, field: str, names: Iterable[str]) -> ValueError:
    """Make the error for a field that there is not; owner: the method, none for a request."""
    return unknown(f"hyperparameter of {owner}" if owner else "field", field, names)
