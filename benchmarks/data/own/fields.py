"""Find text, choices and answer in the fields of documents, in whichever of the usual forms they have."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.data.own.reading import Row
from results.names import unknown

PLACEHOLDER = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")
MOST_LABELS = 26  # different answers that are taken for labels where no choices are named
LETTERS = string.ascii_uppercase


@dataclass(frozen=True)
class Document:
    """What is trained on and asked."""

    text: str
    choices: tuple[str, ...]
    answer: int  # index of the right choice
    place: str  # file and line


@dataclass(frozen=True)
class Fields:
    """Where text, choices and answer stand, as one names them on the command line."""

    text: str  # a field, or a text with fields in it: "{{title}}: {{body}}"
    choices: str | None  # a field that holds a list, several fields, or fixed labels; None: the answers there are
    answer: str  # a field with a choice, its letter, its number, or the name of its field


def found(rows: Sequence[Row], fields: Fields) -> tuple[list[Document], tuple[str, ...] | None, str]:
    """Return the documents, the labels where all documents have the same, and how answers were read.

    rows: of training and evaluation together. Raises ValueError naming file, line and the way out.
    """
    texts = [_text(row, fields.text) for row in rows]
    choices, labels, names = _choices(rows, fields)
    how, answers = _answers(rows, fields, choices, names)
    made = zip(texts, choices, answers, rows, strict=True)
    return [Document(text, options, answer, row.place) for text, options, answer, row in made], labels, how


def is_template(text: str) -> bool:
    """Whether a text has fields in it, and is not the name of one."""
    return PLACEHOLDER.search(text) is not None


def _value(row: Row, field: str, option: str) -> Any:
    if field not in row.values:
        raise ValueError(f"{row.place}: {unknown(f'field for {option}', field, row.values)}")
    value = row.values[field]
    if value is None or (isinstance(value, str) and not value.strip()):
        raise ValueError(f"{row.place}: field {field!r} ({option}) is empty; fill it or take the document out")
    return value


def _written(row: Row, field: str, option: str) -> str:
    """Return the value of a field as text. Raises ValueError for lists and objects."""
    value = _value(row, field, option)
    if isinstance(value, list | dict):
        raise ValueError(f"{row.place}: field {field!r} ({option}) is no text but {json.dumps(value, default=str):.60}")
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _text(row: Row, text: str) -> str:
    if not is_template(text):
        return _written(row, text, "--text")
    return PLACEHOLDER.sub(lambda match: _written(row, match[1], "--text"), text).rstrip(" ")


def _choices(
    rows: Sequence[Row], fields: Fields
) -> tuple[list[tuple[str, ...]], tuple[str, ...] | None, tuple[str, ...]]:
    """Return the choices of each document, the labels where they are fixed, and the fields where each has its own."""
    if fields.choices is None:
        labels = _labels_of_answers(rows, fields.answer)
        return [labels] * len(rows), labels, ()
    names = tuple(name.strip() for name in fields.choices.split(","))
    columns = {name for row in rows for name in row.values}
    if len(names) == 1:
        return [_listed(row, names[0]) for row in rows], None, ()
    if columns >= set(names):
        made = [tuple(_written(row, name, "--choices") for name in names) for row in rows]
        return [_distinct(choices, row) for choices, row in zip(made, rows, strict=True)], None, names
    if columns & set(names):
        lacking = next(name for name in names if name not in columns)
        raise ValueError(
            f"--choices {fields.choices}: some of these are fields and {lacking!r} is none; name fields alone "
            f"({', '.join(sorted(columns))}), or labels alone"
        )
    if not all(names) or len(set(names)) != len(names):
        raise ValueError(f"--choices {fields.choices}: expected different labels, as in yes,no,maybe")
    return [names] * len(rows), names, ()


def _labels_of_answers(rows: Sequence[Row], field: str) -> tuple[str, ...]:
    labels = sorted({_written(row, field, "--answer") for row in rows})
    if not 2 <= len(labels) <= MOST_LABELS:
        raise ValueError(
            f"field {field!r} (--answer) has {len(labels)} different answers, and 2 to {MOST_LABELS} can be labels; "
            "name the field or fields with --choices, or write a task file for answers that are written "
            "(examples/own_task, output_type: generate_until)"
        )
    return tuple(labels)


def _listed(row: Row, field: str) -> tuple[str, ...]:
    value = _value(row, field, "--choices")
    if isinstance(value, str) and value.lstrip().startswith("["):  # a cell of a table
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError(f"{row.place}: field {field!r} (--choices) is no list in JSON: {value:.60}") from None
    if isinstance(value, dict) and isinstance(value.get("text"), list):  # as ARC and OpenBookQA have it
        value = value["text"]
    if not isinstance(value, list) or any(isinstance(choice, list | dict) or choice is None for choice in value):
        raise ValueError(
            f"{row.place}: field {field!r} (--choices) is no list of texts but {json.dumps(value, default=str):.60}; "
            "several fields or labels are named with commas"
        )
    return _distinct(tuple(c if isinstance(c, str) else json.dumps(c, default=str) for c in value), row)


def _distinct(choices: tuple[str, ...], row: Row) -> tuple[str, ...]:
    if len(choices) < 2 or len(set(choices)) != len(choices) or not all(c.strip() for c in choices):
        raise ValueError(f"{row.place}: expected two or more different choices, found {list(choices)}")
    return choices


def _answers(
    rows: Sequence[Row], fields: Fields, choices: Sequence[tuple[str, ...]], names: tuple[str, ...]
) -> tuple[str, list[int]]:
    """Return how the answers are written and the index of each: in the first form that fits all documents."""
    given = [_written(row, fields.answer, "--answer") for row in rows]
    forms: dict[str, Callable[[str, tuple[str, ...]], int | None]] = {
        "the text of a choice": lambda answer, options: _place(answer, options),
        "the name of a field": lambda answer, options: _place(answer, names),
        "a number from 0": lambda answer, options: _number(answer, len(options)),
        "a number from 1": lambda answer, options: _number(answer, len(options), 1),
        "a letter": lambda answer, options: _place(answer.strip().upper(), tuple(LETTERS[: len(options)])),
    }
    furthest = 0
    for how, index in forms.items():
        indices = [index(answer, options) for answer, options in zip(given, choices, strict=True)]
        if None not in indices:
            return how, [i for i in indices if i is not None]
        furthest = max(furthest, indices.index(None))  # where the best form ends
    raise ValueError(
        f"{rows[furthest].place}: the answer {given[furthest]!r} (field {fields.answer!r}) is none of the choices "
        f"{list(choices[furthest])}; in all documents alike it may be {', '.join(forms)}"
    )


def _place(answer: str, options: Sequence[str]) -> int | None:
    return options.index(answer) if answer in options else None


def _number(answer: str, count: int, first: int = 0) -> int | None:
    number = int(answer) - first if re.fullmatch(r"\s*[0-9]{1,9}\s*", answer) else None
    return number if number is not None and 0 <= number < count else None
