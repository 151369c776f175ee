"""Command-line options made from the fields of a pydantic dataclass: name, type, default, choices and help."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import typer
from pydantic.fields import FieldInfo


def options_of(cls: type, flags: Mapping[str, tuple[str, ...]]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a command: its `**request` becomes one option for each field of `cls`, before its own options.

    flags: of a field, where they are not `--field-name`. The values are not checked here but by `cls` itself, whose
    errors name the nearest choice.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = inspect.signature(command, eval_str=True)
        parameters = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        hints = typing.get_type_hints(cls, include_extras=True)
        made = [_option(field, hints[field.name], flags.get(field.name, ())) for field in dataclasses.fields(cls)]
        both = [*made, *parameters]
        command.__signature__ = own.replace(parameters=both)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in both}
        return command

    return decorate


def _option(field: dataclasses.Field, hint: Any, flags: tuple[str, ...]) -> inspect.Parameter:
    plain, info = typing.get_args(hint)
    assert isinstance(info, FieldInfo)  # every field is declared with one
    options = typing.get_args(plain) if isinstance(plain, types.UnionType) else (plain,)
    choices = [c for option in options if typing.get_origin(option) is Literal for c in typing.get_args(option)]
    kind = str if choices else next(option for option in options if option is not type(None))
    declared = typer.Option(
        *(flags or (f"--{field.name.replace('_', '-')}",)),
        help=str(info.description),
        metavar=f"[{'|'.join(choices)}]" if choices else None,
    )
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=field.default,
        annotation=Annotated[kind | None if field.default is None else kind, declared],
    )
