"""Command-line options made from the fields of a pydantic dataclass: name, type, default, choices and help."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import typer
from pydantic.fields import FieldInfo

from baselines.fields import alternatives


@dataclasses.dataclass(frozen=True)
class Renamed:
    """An option under an earlier name, which still answers but is not shown."""

    field: str
    values: Mapping[str, str] = dataclasses.field(default_factory=dict)  # earlier value -> today's, where they differ


def options_of(
    cls: type, flags: Mapping[str, tuple[str, ...]], renamed: Mapping[str, Renamed]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a command: its `**request` becomes one option for each field of `cls`, before its own options.

    flags: of a field, where they are not `--field-name`; renamed: earlier flags, which warn on stderr. The values are
    not checked here but by `cls` itself, whose errors name the nearest choice.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(command, eval_str=True)
        parameters = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        plain, hints = typing.get_type_hints(cls), typing.get_type_hints(cls, include_extras=True)
        made = [
            _option(field, plain[field.name], typing.get_args(hints[field.name])[-1], flags.get(field.name, ()))
            for field in dataclasses.fields(cls)
        ]
        earlier = [_hidden(flag) for flag in renamed]

        @functools.wraps(command)
        def run(**values: Any) -> Any:
            for (flag, now), parameter in zip(renamed.items(), earlier, strict=True):
                value = values.pop(parameter.name)
                if value is not None:
                    new_flag = flags.get(now.field, (_flag(now.field),))[0]
                    typer.echo(f"warning: {flag} is now {new_flag}; the old name goes in the next release", err=True)
                    values[now.field] = now.values.get(value, value)
            return command(**values)

        everything = [*made, *parameters, *earlier]
        run.__signature__ = signature.replace(parameters=everything)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in everything}
        return run

    return decorate


def _flag(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _hidden(flag: str) -> inspect.Parameter:
    return inspect.Parameter(
        f"earlier_{flag.strip('-').replace('-', '_')}",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[str | None, typer.Option(flag, hidden=True)],
    )


def _option(field: dataclasses.Field, plain: Any, info: object, flags: tuple[str, ...]) -> inspect.Parameter:
    assert isinstance(info, FieldInfo)  # every field is declared with one
    options = alternatives(plain)
    choices = [c for option in options if typing.get_origin(option) is Literal for c in typing.get_args(option)]
    kind = str if choices else next(option for option in options if option is not type(None))
    declared = typer.Option(
        *(flags or (_flag(field.name),)),
        help=str(info.description),
        metavar=f"[{'|'.join(choices)}]" if choices else None,
    )
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=field.default,
        annotation=Annotated[kind | None if field.default is None else kind, declared],
    )
