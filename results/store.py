"""Where records live: one JSON file a record, named by its key, written whole or not at all.

A run may be killed at any moment, a disk may fill up, and several jobs may finish at once. So a record is written to
a temporary file of its own in the same folder, flushed to the disk, and renamed over its final name in one step. A
digest over the content is written beside it, so that a file edited by hand is noticed, set aside under another name
(never deleted, never overwritten) and its job simply runs again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results.environment import ROOT, git_state
from results.files import write_whole
from results.record import Record, RecordError, RunSpec

RECORDS = Path(__file__).resolve().parent / "records" / "main"  # committed
SCRATCH = Path(__file__).resolve().parent / "scratch"  # everything else; git ignores it

_DIGEST = "digest"
# Fields of the file that get a line for each of their entries, so that a diff of two records can be read.
_OPENED = ("spec", "scores", "costs", "facts", "data", "environment")


class StoreError(OSError):
    """A record cannot be kept where it was asked to go; the message names the place and the way out."""


class Store:
    """Records in one folder.

    set_aside: (path under its new name, reason) of each unreadable file met so far by this object.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.set_aside: list[tuple[Path, str]] = []

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def check_writable(self) -> None:
        """Create the folder and write a byte into it. Raises StoreError naming the folder and the way out.

        The folder of the committed records is refused as well while the code has uncommitted changes: better before
        hours of work than after.
        """
        if self.folder.resolve() == RECORDS:
            _refuse_dirty("what runs now", git_state(ROOT)[1])
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as file:
                file.write(b"0")
                file.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def save(self, record: Record) -> Path:
        """Write `record` under its key, replacing an earlier one, and return the path.

        Raises StoreError when the folder cannot be written, or when a run of uncommitted code would be put among the
        committed records; what was there before is then still there.
        """
        if self.folder.resolve() == RECORDS:
            _refuse_dirty(record.key, record.environment.get("git_dirty"))
        path = self.path(record.key)
        text = _render(record)
        try:
            write_whole(path, text)
        except OSError as error:
            raise self._unwritable(error) from error
        return path

    def load(self, key: str) -> Record | None:
        """The record of `key`, finished or failed; None when there is none (or it had to be set aside)."""
        return self._read(self.path(key))

    def find(self, spec: RunSpec) -> Record | None:
        """The finished record of `spec`; None when there is none or its job failed."""
        record = self.load(spec.key)
        return record if record is not None and record.status == "done" else None

    def all(self) -> list[Record]:
        """Every readable record of the folder, sorted by key; the others are set aside with a warning each."""
        if not self.folder.is_dir():
            return []
        names = sorted(p for p in self.folder.glob("*.json") if not p.name.startswith("."))
        records = [self._read(path) for path in names]
        return sorted((r for r in records if r is not None), key=lambda r: r.key)

    def _read(self, path: Path) -> Record | None:
        try:
            text = path.read_bytes().decode("utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            self._put_aside(path, f"not text: {error}")
            return None
        try:
            record = _parse(text)
            if path.stem != record.key:
                raise RecordError(f"the file holds the record {record.key!r}")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self._put_aside(path, str(error) or type(error).__name__)
            return None
        return record

    def _put_aside(self, path: Path, reason: str) -> None:
        """Rename `path` to the first free `<name>.broken`, `<name>.broken1`, ... and say so."""
        target = path
        number = 0
        while True:
            candidate = path.with_name(f"{path.name}.broken{number or ''}")
            try:
                # An exclusive creation reserves the name, so that two processes never take the same one.
                os.close(os.open(candidate, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except FileExistsError:
                number += 1
                continue
            except OSError as error:
                reason = f"{reason} (and it could not be renamed: {error.strerror})"
                break
            try:
                os.replace(path, candidate)
                target = candidate
            except FileNotFoundError:  # another process was faster
                os.unlink(candidate)
            break
        self.set_aside.append((target, reason))
        warnings.warn(f"{path} is no readable record and was set aside as {target.name}: {reason}", stacklevel=4)

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(
            error.errno,
            f"cannot write to {self.folder}: {error.strerror or error}. "
            "Free or unlock it, or choose another folder with --out",
        )


def read(path: str | os.PathLike[str]) -> Record:
    """The record of a file, wherever it lies; nothing is set aside. Raises RecordError naming the file, or OSError."""
    try:
        return _parse(Path(path).read_text(encoding="utf-8"))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordError(f"{path}: {error}") from error


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


def _render(record: Record) -> str:
    """JSON with a line for each field, and for each entry of the fields in `_OPENED`."""
    # Once through JSON first: tuples become lists and keys become strings, as the reader will see them.
    body = json.loads(json.dumps(record.to_json()))
    lines = []
    for name, value in {**body, _DIGEST: _digest(body)}.items():
        if name in _OPENED and value:
            entries = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            lines.append(f" {json.dumps(name)}: {{\n{entries}\n }}")
        else:
            lines.append(f" {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _parse(text: str) -> Record:
    body = json.loads(text)
    if isinstance(body, dict) and (digest := body.pop(_DIGEST, None)) is not None and digest != _digest(body):
        raise RecordError("its content does not match its digest: edited by hand?")
    return Record.from_json(body)
