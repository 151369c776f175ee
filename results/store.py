"""Where records live: one JSON file a record, named by its key, written whole or not at all, and packs of many.

A run may be killed at any moment, a disk may fill up, and several jobs may finish at once. So a record is written to
a temporary file of its own in the same folder, flushed to the disk, and renamed over its final name in one step. A
digest over the content is written beside it, so that a file edited by hand is noticed. A store owns only the files that
are named as a record's key. Reading renames nothing: what is no readable record is named in a warning and passed over.
Only who is about to write a record sets aside an unreadable file in its place (never deleted, never overwritten).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from results.environment import git_state
from results.files import write_whole
from results.pack import PACKS, read_pack
from results.private import ROOT
from results.record import Record
from results.spec import SCHEMA, RecordError, RunSpec

RECORDS = Path(__file__).resolve().parent / "records" / "main"  # committed
SCRATCH = Path(__file__).resolve().parent / "scratch"  # everything else; git ignores it

_DIGEST = "digest"
_KEY = re.compile(r"[^/\\]+--[^/\\]+--[^/\\]+--s-?\d+--[0-9a-f]{8}")
# Fields of the file that get a line for each of their entries, so that a diff of two records can be read.
_OPENED = ("spec", "scores", "costs", "facts", "data", "environment")


class StoreError(OSError):
    """A record cannot be kept where it was asked to go; the message names the place and the way out."""


class Store:
    """Records in one folder, in files of their own or in packs; a file goes before a pack.

    unreadable: (path, reason) of each file met so far by this object that is named as a record and is none.
    set_aside: (path under its new name, reason) of those that were in the way of a record to be written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.unreadable: list[tuple[Path, str]] = []
        self.set_aside: list[tuple[Path, str]] = []
        self._packed: dict[Path, tuple[tuple[int, int], dict[str, Record]]] = {}  # by pack: (size, time), by key

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def check_writable(self) -> None:
        """Create the folder and write a byte into it. Raises StoreError naming the folder and the way out.

        The folder of the committed records is refused as well while the code has uncommitted changes: better before
        hours of work than after. Raises ValueError where SMOE_COMMIT does not name this code.
        """
        dirty = git_state(ROOT)[1]
        if self.folder.resolve() == RECORDS:
            _refuse_dirty("what runs now", dirty)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as file:
                file.write(b"0")
                file.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def save(self, record: Record) -> Path:
        """Write `record` under its key, replacing an earlier one, and return the path.

        Raises RecordError for what no measurement gives (a NaN, a score that is not the mean of its outcomes) and for a
        record of an earlier schema, which stays as it was written; StoreError when the folder cannot be written, or
        when a run of uncommitted code would be put among the committed records. What was there before is then still
        there.
        """
        if self.folder.resolve() == RECORDS:
            _refuse_dirty(record.key, record.environment.get("git_dirty"))
        path = self.path(record.key)
        text = render(record)
        self.quarantine(record.key)
        try:
            write_whole(path, text)
        except OSError as error:
            raise self._unwritable(error) from error
        return path

    def load(self, key: str) -> Record | None:
        """Return the record of `key`, finished or failed; None when there is none that can be read."""
        path = self.path(key)
        record = self._read(path) if is_key(key) and os.path.lexists(path) else None
        return record if record is not None else self._in_packs().get(key)

    def find(self, spec: RunSpec) -> Record | None:
        """Return the finished record of `spec`; None without one, or where it is of an earlier schema or failed."""
        record = self.load(spec.key)
        return record if record is not None and record.status == "done" and record.schema == SCHEMA else None

    def all(self) -> list[Record]:
        """Return every readable record of the folder, sorted by key; the others are named in a warning each."""
        files = {path.stem: self._read(path) for path in record_files(self.folder)}
        records = {**self._in_packs(), **{key: record for key, record in files.items() if record is not None}}
        return [records[key] for key in sorted(records)]

    def quarantine(self, key: str) -> None:
        """Rename what stands in the place of the record `key` and is none to the first free `<name>.broken<number>`."""
        path = self.path(key)
        try:
            read(path)
        except FileNotFoundError:
            return
        except (RecordError, OSError) as error:
            self._quarantine(path, str(error))

    def _read(self, path: Path) -> Record | None:
        try:
            record = read(path)
            if path.stem != record.key:
                raise RecordError(f"{path}: the file holds the record {record.key!r}")
        except FileNotFoundError:  # taken away meanwhile
            return None
        except (RecordError, OSError) as error:
            self._pass_over(path, str(error))
            return None
        return record

    def _in_packs(self) -> dict[str, Record]:
        records: dict[str, Record] = {}
        for path in sorted(self.folder.glob(PACKS)) if self.folder.is_dir() else []:
            try:
                state = path.stat()
                version = (state.st_size, state.st_mtime_ns)
                if self._packed.get(path, (None,))[0] != version:
                    self._packed[path] = version, {r.key: r for r in read_packed(path)}
                records = {**self._packed[path][1], **records}
            except (RecordError, OSError) as error:
                self._pass_over(path, str(error))
        return records

    def _pass_over(self, path: Path, reason: str) -> None:
        if path not in [file for file, _ in self.unreadable]:
            self.unreadable.append((path, reason))
            warnings.warn(f"{path.name} is no readable record and is passed over: {reason}", stacklevel=4)

    def _quarantine(self, path: Path, reason: str) -> None:
        number = 0
        while True:
            candidate = path.with_name(f"{path.name}.broken{number or ''}")
            if not os.path.lexists(candidate):
                break
            number += 1
        try:
            if path.is_file():
                # An exclusive creation reserves the name, so that two processes never take the same one.
                os.close(os.open(candidate, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            os.replace(path, candidate)
        except FileExistsError:
            return self._quarantine(path, reason)
        except FileNotFoundError:  # another process was faster
            candidate.unlink(missing_ok=True)
            return None
        except OSError as error:
            raise self._unwritable(error) from error
        self.set_aside.append((candidate, reason))
        warnings.warn(f"{path} is no readable record and was set aside as {candidate.name}: {reason}", stacklevel=4)
        return None

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(
            error.errno,
            f"cannot write to {self.folder}: {error.strerror or error}. "
            "Free or unlock it, or choose another folder with --out",
        )


def folder_path(text: str | Path) -> Path:
    """Read a folder's name from a command line. Raises ValueError for an empty one, which would be where one stands."""
    if not str(text).strip():
        raise ValueError("an empty name is no folder; the current one is '.'")
    return Path(text)


def is_key(name: str) -> bool:
    """Say whether a file of this name (without its ending) may be a record's."""
    return _KEY.fullmatch(name) is not None


def record_files(folder: Path) -> list[Path]:
    """List the files that are named as records, sorted; whatever else lies in the folder is none of ours."""
    return sorted(p for p in folder.glob("*.json") if is_key(p.stem)) if folder.is_dir() else []


def read(path: str | os.PathLike[str]) -> Record:
    """Return the record of a file, wherever it lies. Raises RecordError naming the file, or OSError."""
    path = Path(path)
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise RecordError(f"{path}: not a regular file")
    try:
        return parse(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: {error}") from error


def read_packed(path: Path) -> Iterator[Record]:
    """Yield the records of a pack. Raises RecordError naming the pack and the line, or OSError."""
    for number, line in enumerate(read_pack(path), start=1):
        try:
            yield parse(line)
        except (ValueError, RecursionError) as error:
            raise RecordError(f"{path}, line {number}: {error}") from error


def publish(record: Record, folder: str | os.PathLike[str] = RECORDS) -> Path:
    """Put `record` among the committed ones. Raises StoreError unless the code it ran is known to be committed."""
    _refuse_dirty(record.key, record.environment.get("git_dirty"))
    return Store(folder).save(record)


def _refuse_dirty(what: str, dirty: bool | None) -> None:
    if dirty is None:
        raise StoreError(f"{what} is of no known commit (no git checkout); keep it in {SCRATCH.name}")
    if dirty:
        raise StoreError(
            f"{what} is measured with uncommitted code (git_dirty), so nobody could run it "
            f"again; commit first, or keep it in {SCRATCH.name}"
        )


def _digest(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def render(record: Record) -> str:
    """Write JSON with a line for each field, and for each entry of the fields in `_OPENED`. Raises RecordError."""
    record.check()
    if record.schema != SCHEMA:
        raise RecordError(f"{record.key} is of schema {record.schema}: it stays as it was written")
    # Once through JSON first: tuples become lists and keys become strings, as the reader will see them.
    body = json.loads(json.dumps(record.to_json(), allow_nan=False))
    lines = []
    for name, value in {**body, _DIGEST: _digest(body)}.items():
        if name in _OPENED and value:
            entries = ",\n".join(f"  {json.dumps(k)}: {_dumps(v)}" for k, v in value.items())
            lines.append(f" {json.dumps(name)}: {{\n{entries}\n }}")
        else:
            lines.append(f" {json.dumps(name)}: {_dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def parse(text: bytes) -> Record:
    """Read a record's file. Raises ValueError or RecursionError for what is none."""
    try:
        body = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError:
        raise RecordError("nested too deep") from None
    if not isinstance(body, dict):
        raise RecordError("a record is a JSON object")
    digest = body.pop(_DIGEST, None)
    if digest is None:
        raise RecordError("it has no digest: not written by this suite, or cut by hand")
    if digest != _digest(body):
        raise RecordError("its content does not match its digest: edited by hand?")
    return Record.from_json(body)


def _dumps(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _refuse_constant(name: str) -> Any:
    raise RecordError(f"{name} is no finite number")
