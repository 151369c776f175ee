"""Read documents from JSONL, JSON, CSV, TSV or Parquet, each with the file and line that it stands on."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

TRAINING = ("train", "training")  # names, without their ending, of the files of a folder
EVALUATION = ("test", "validation", "valid", "val", "dev", "eval")  # the first that is there


@dataclass(frozen=True)
class Row:
    """One document as its file has it."""

    values: Mapping[str, Any]
    place: str  # "train.jsonl, line 3"


def read(file: Path) -> list[Row]:
    """Read every document of a file. Raises ValueError naming file and line."""
    if file.suffix.lower() not in READERS:
        raise ValueError(f"{file}: expected a file that ends in {', '.join(READERS)}, or a folder of such files")
    try:
        rows = list(READERS[file.suffix.lower()](file))
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror or error}") from error
    if not rows:
        raise ValueError(f"{file}: no document in it")
    return rows


def pair(data: Path, test: Path | None) -> tuple[Path, Path | None]:
    """Return the files of training and evaluation; None: the one file is to be cut.

    data: a file, or a folder with files named like train.jsonl and test.jsonl. Raises ValueError.
    """
    if not data.is_dir():
        return data, test
    train = _named(data, TRAINING)
    if train is None:
        names = ", ".join(sorted(f.name for f in data.iterdir())[:10]) or "nothing"
        raise ValueError(f"{data}: no file train{'|'.join(READERS)} in this folder, which holds {names}")
    return train, test or _named(data, EVALUATION)


def _named(folder: Path, stems: tuple[str, ...]) -> Path | None:
    """Return the folder's file of the first of these names. Raises ValueError where there are two."""
    for stem in stems:
        files = sorted(f for f in folder.iterdir() if f.stem.lower() == stem and f.suffix.lower() in READERS)
        if len(files) > 1:
            raise ValueError(f"{folder}: {' and '.join(f.name for f in files)}: name one of them as a file")
        if files:
            return files[0]
    return None


def _json_lines(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                place = f"{file.name}, line {number}"
                yield _row(_parsed(line, place), place)


def _json(file: Path) -> Iterator[Row]:
    text = file.read_text(encoding="utf-8-sig")
    if not text.lstrip().startswith("["):
        return _json_lines(file)
    return (_row(value, f"{file.name}, document {number}") for number, value in enumerate(_parsed(text, file.name), 1))


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        at = f"line {error.lineno} of it, " if isinstance(error, json.JSONDecodeError) and error.lineno > 1 else ""
        raise ValueError(f"{place}: no JSON ({at}{error})") from error


def _row(value: Any, place: str) -> Row:
    if not isinstance(value, dict):
        raise ValueError(f"{place}: expected an object of fields, found {json.dumps(value)[:60]}")
    return Row(value, place)


def _table(file: Path, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with file.open(encoding="utf-8-sig", newline="") as opened:
        reader = csv.reader(opened, delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            if twice := {name for name in header if header.count(name) > 1}:
                raise ValueError(f"{file.name}, line 1: two columns are named {min(twice)!r}")
            start = reader.line_num + 1
            for cells in reader:
                place, start = f"{file.name}, line {start}", reader.line_num + 1
                if cells and len(cells) != len(header):
                    raise ValueError(f"{place}: {len(cells)} cells under {len(header)} columns ({','.join(header)})")
                if cells:
                    yield Row(dict(zip(header, cells, strict=True)), place)
        except csv.Error as error:
            raise ValueError(f"{file.name}, line {reader.line_num}: {error}") from error


def _parquet(file: Path) -> Iterator[Row]:
    if not file.is_file():
        raise ValueError(f"{file}: No such file")
    try:
        data = datasets.Dataset.from_parquet(str(file), keep_in_memory=True)
    except (ValueError, OSError, NotImplementedError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(f"{file}: no Parquet that can be read ({str(error).splitlines()[0]})") from error
    for number, values in enumerate(data, 1):
        yield Row(dict(values), f"{file.name}, row {number}")


READERS: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": lambda file: _table(file, ","),
    ".tsv": lambda file: _table(file, "\t"),
    ".parquet": _parquet,
}
