"""Records as pandas DataFrames, for any question that no report answers; needs no torch.

    from reports.frame import records, outcomes, blocks, losses
    runs = records("results/records/main")
    runs.groupby("method")["macro_accuracy"].mean()

Each function takes folders, searches them and all below them, and reads single files and packs alike. Every row says
its record's `key`, `folder` (relative to the one that was given), `contributed` (sent in by somebody else), `suite`,
`model`, `method`, `seed` and `train_documents`; whatever else a question needs is joined from `records` by `folder` and
`key`. What was not measured is missing (NA), never 0. Units are those of the record: fractions, bytes, seconds.

`python -m reports export --what records --to FILE` writes the same as CSV, Parquet or JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from results.files import write_whole
from results.metrics import METRICS
from results.names import place
from results.pack import PACKS
from results.record import Record
from results.store import Store, record_files
from results.table import inert

Folder: TypeAlias = str | os.PathLike[str]
Row: TypeAlias = dict[str, Any]

IDENTITY = ("key", "folder", "contributed", "suite", "model", "method", "seed", "train_documents")
ENDINGS = (".csv", ".parquet", ".json")  # of the files that `write` makes
_APART = ("tasks", "hyperparameters")  # of a spec, in a form of their own
_TYPES = {  # types of a column's values: that of the column, which knows what is missing
    frozenset({str}): "string",
    frozenset({bool}): "boolean",
    frozenset({int}): "Int64",
    frozenset({float}): "Float64",
    frozenset({int, float}): "Float64",
}


def records(*folders: Folder) -> pd.DataFrame:
    """Return a row a record, finished or failed.

    Columns: `status`, `error`, `schema`; every field of the spec, with `hyperparameters.NAME`; every metric of
    `results.metrics` (macro_accuracy, trainable_params, peak_bytes, total_seconds ...); `score.TASK` and
    `stderr.TASK` of each task's headline metric; `environment.NAME`. Lists and mappings are JSON texts.
    Raises NotADirectoryError for a folder that does not exist.
    """
    return _frame((_record_row(record, folder) for record, folder in _load(folders)), (*IDENTITY, "status", "error"))


def outcomes(*folders: Folder) -> pd.DataFrame:
    """Return a row a document, for each record and task that was scored.

    Columns: `task`, `metric`, `document` (hash of its content: the same in every record), `outcome` (the headline
    metric of that document); where the protocol gives them, `gold` (index of the right choice), `answer` (as written),
    `loglikelihoods` (natural logarithm) and `choice_bytes`, both lists over the choices.
    Raises NotADirectoryError for a folder that does not exist.
    """
    columns = ("task", "metric", "document", "outcome", "gold", "answer", "loglikelihoods", "choice_bytes")
    return _frame(_rows(folders, _outcome_rows), (*IDENTITY, *columns))


def blocks(*folders: Folder) -> pd.DataFrame:
    """Return a row a block (a weight matrix with adapters), for each record that says something of its blocks.

    Columns: `block` (its name), `layer` (missing outside the layers), `projection`; `adapter` (the task, where each has
    its own); `experts` and `ranks`; `sensitivity.TASK`; of its router for each task `router_load.TASK` (the list of its
    experts' mean gate weights), `router_entropy.TASK` and `router_dead.TASK`; and whatever else a method measured of
    its blocks, under the name of that fact. Raises NotADirectoryError for a folder that does not exist.
    """
    return _frame(_rows(folders, _block_rows), (*IDENTITY, "adapter", "block", "layer", "projection"))


def losses(*folders: Folder) -> pd.DataFrame:
    """Return a row an optimiser step, for each record that was trained: `step` from 1, `loss` without penalties.

    Raises NotADirectoryError for a folder that does not exist.
    """
    return _frame(_rows(folders, _loss_rows), (*IDENTITY, "step", "loss"))


FRAMES: Mapping[str, Callable[..., pd.DataFrame]] = {
    "records": records,
    "outcomes": outcomes,
    "blocks": blocks,
    "losses": losses,
}


def write(frame: pd.DataFrame, file: Folder) -> Path:
    """Write a frame in the format that the file's ending names, whole or not at all, and return the path.

    Raises ValueError for another ending, naming the known ones, or OSError.
    """
    file = Path(file)
    check_ending(file)
    if file.suffix == ".parquet":
        part = file.with_name(f".{file.name}.part")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            frame.to_parquet(part, index=False)
            os.replace(part, file)
        finally:
            part.unlink(missing_ok=True)
    elif file.suffix == ".json":
        values = frame.astype(object).where(frame.notna(), None)  # of pandas' own writer, floats lose digits
        write_whole(file, json.dumps(values.to_dict("records"), ensure_ascii=False) + "\n")
    else:
        write_whole(file, csv_text(frame))
    return file


def check_ending(file: Path) -> None:
    """Raise ValueError unless `write` knows the file's ending."""
    if file.suffix not in ENDINGS:
        raise ValueError(f"{file}: the ending says the format, one of {', '.join(ENDINGS)}")


def csv_text(frame: pd.DataFrame, digits: int | None = None) -> str:
    """Write a frame as CSV, without its index; what is missing is empty.

    Whole numbers have no point, floats `digits` significant digits (None: all), so that redraws agree between machines.
    A text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    texts = pd.DataFrame(
        {i: [_cell(value, digits) for value in frame.iloc[:, i]] for i in range(frame.shape[1])}, dtype=object
    )
    texts.columns = pd.Index([inert(str(name)) for name in frame.columns], dtype=object)
    return str(texts.to_csv(index=False, lineterminator="\n"))


def _cell(value: Any, digits: int | None) -> str:
    if isinstance(value, list | tuple | dict):
        return json.dumps(value)
    if value is None or value is pd.NA or value != value:
        return ""
    if isinstance(value, float):
        whole = value.is_integer() and abs(value) < 1e15
        return str(int(value)) if whole else repr(float(value)) if digits is None else f"{value:.{digits}g}"
    return inert(value) if isinstance(value, str) else str(value)


def _load(folders: tuple[Folder, ...]) -> Iterator[tuple[Record, str]]:
    """Every readable record in and below the folders, with the folder it lies in."""
    for root in map(Path, folders):
        if not root.is_dir():
            raise NotADirectoryError(f"no folder {root}")
        for folder in sorted({root, *(path for path in root.rglob("*") if path.is_dir())}):
            if record_files(folder) or any(folder.glob(PACKS)):
                name = folder.relative_to(root).as_posix()
                yield from ((record, name) for record in Store(folder).all())


def _rows(folders: tuple[Folder, ...], of: Callable[[Record], Iterator[Row]]) -> Iterator[Row]:
    for record, folder in _load(folders):
        identity = _identity(record, folder)
        yield from ({**identity, **row} for row in of(record))


def _frame(rows: Iterator[Row], columns: tuple[str, ...]) -> pd.DataFrame:
    """Build a frame with `columns` first, with or without a row; missing values are NA of the column's type."""
    made = list(rows)
    every = list(dict.fromkeys([*columns, *(name for row in made for name in row)]))
    frame = pd.DataFrame({name: pd.Series([row.get(name) for row in made], dtype=object) for name in every})
    return frame.apply(_typed) if made else frame


def _typed(column: pd.Series) -> pd.Series:
    """Convert the column to the type of its values; values of several types become texts, lists stay as they are."""
    kinds = frozenset(type(value) for value in column if value is not None)
    if kinds in _TYPES:
        return column.astype(_TYPES[kinds])
    if len(kinds) > 1:
        as_text = column.map(lambda value: value if value is None or isinstance(value, str) else json.dumps(value))
        return as_text.astype("string")
    return column


def _identity(record: Record, folder: str) -> Row:
    spec = {name: getattr(record.spec, name) for name in ("suite", "model", "method", "seed", "train_documents")}
    return {"key": record.key, "folder": folder, "contributed": record.contributed, **spec}


def _record_row(record: Record, folder: str) -> Row:
    row = _identity(record, folder)
    row.update({"status": record.status, "error": record.error, "schema": record.schema})
    spec = record.spec.to_json()
    row["tasks"] = " ".join(record.spec.tasks)
    row.update({name: _scalar(value) for name, value in spec.items() if name not in _APART})
    row.update({f"hyperparameters.{name}": _scalar(value) for name, value in record.spec.hyperparameters.items()})
    row.update({metric.name: metric.get(record) for metric in METRICS})
    for task, score in (record.scores or {}).items():
        row.update({f"score.{task}": score.value, f"stderr.{task}": score.stderr})
    row["first_step"] = record.first_step
    for name, value in record.environment.items():
        inner = value if isinstance(value, Mapping) else None
        row.update(
            {f"environment.{name}": _scalar(value)}
            if inner is None
            else {f"environment.{name}.{part}": _scalar(entry) for part, entry in inner.items()}
        )
    return row


def _outcome_rows(record: Record) -> Iterator[Row]:
    for task, score in (record.scores or {}).items():
        further = {"gold": score.gold, "answer": score.answers}
        lists = {"loglikelihoods": score.loglikelihoods, "choice_bytes": score.choice_bytes}
        for i, (document, outcome) in enumerate(zip(score.documents, score.outcomes, strict=True)):
            row: Row = {"task": task, "metric": score.metric, "document": document, "outcome": outcome}
            row.update({name: None if values is None else values[i] for name, values in further.items()})
            row.update({name: None if values is None else list(values[i]) for name, values in lists.items()})
            yield row


def _block_rows(record: Record) -> Iterator[Row]:
    by_adapter = record.facts.get("adapters")
    adapters = by_adapter if isinstance(by_adapter, Mapping) else {record.spec.task: record.facts}
    for adapter, facts in adapters.items():
        measured: dict[str, Row] = {name: {} for name in _block_names(record, facts)}
        for name, value in facts.items():
            for column, by_block in _by_block(name, value):
                for block in by_block.keys() & measured.keys():
                    measured[block][column] = by_block[block]
        for block, row in measured.items():
            layer, projection = place(block)
            yield {"adapter": adapter, "block": block, "layer": layer, "projection": projection, **row}


def _block_names(record: Record, facts: Mapping[str, Any]) -> list[str]:
    """Return the blocks that the record says something of, in its order."""
    names = [*(facts.get("experts") or {}), *(facts.get("ranks") or {}), *(record.trained_blocks or ())]
    for fact in ("sensitivity", "router"):
        names += [block for by_block in (facts.get(fact) or {}).values() for block in by_block]
    return list(dict.fromkeys(names))


def _by_block(name: str, value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(column, {block: value}) of a fact, which is by block, or by task and block."""
    if not isinstance(value, Mapping):
        return
    if name == "router":
        for task, routers in value.items():
            for part in ("load", "entropy", "dead"):
                yield f"router_{part}.{task}", {block: entry.get(part) for block, entry in routers.items()}
    elif value and all(isinstance(inner, Mapping) for inner in value.values()):
        yield from ((f"{name}.{task}", by_block) for task, by_block in value.items())
    else:
        yield name, value


def _loss_rows(record: Record) -> Iterator[Row]:
    yield from ({"step": step, "loss": loss} for step, loss in enumerate(record.losses or (), start=1))


def _scalar(value: Any) -> Any:
    """Make a value fit a cell: lists and mappings as JSON."""
    return json.dumps(value) if isinstance(value, list | tuple | Mapping) else value
