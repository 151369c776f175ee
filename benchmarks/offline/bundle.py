"""Files -> parts below a size, and back: for machines without a network that take files in pieces.

A bundle is a folder. `bundle.json` names every part and every file with its sha256; `bundle.tar.gz.000`, `.001`, ...
are one archive cut into pieces, so that `cat bundle.tar.gz.* | tar xz` rebuilds it without this code as well. The same
files give the same parts, byte for byte. Parts may come one at a time and in any order: each is checked and kept, and
the files are written when the last one is there. Standard library alone, since nothing may be installed yet.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

from benchmarks.models.assets import sha256

FORMAT = "smoe-bundle-1"
MANIFEST = "bundle.json"
PARTS = "bundle.tar.gz"
WAITING = ".parts"  # where parts are kept until all of them are there
DONE = "unpacked.json"  # the manifest of what was unpacked last

Manifest = Mapping[str, Any]  # "format", "parts" and "files": each {"name", "bytes", "sha256"}


class BundleError(RuntimeError):
    """A bundle is no bundle, damaged or incomplete; the message names what is."""


def pack(files: Mapping[str, Path], to: Path, part_bytes: int) -> Manifest:
    """Write the files, by the names they are to have, into the folder `to` as parts of at most `part_bytes`.

    A bundle that lies there is replaced. Raises ValueError for no files or a size that is not positive.
    """
    if not files or part_bytes < 1:
        raise ValueError(f"nothing to pack: {len(files)} files in parts of {part_bytes} bytes")
    to.mkdir(parents=True, exist_ok=True)
    for old in [to / MANIFEST, *to.glob(f"{PARTS}.*")]:
        old.unlink(missing_ok=True)
    parts = _Parts(to, part_bytes)
    with (
        parts,
        gzip.GzipFile(filename="", mode="wb", fileobj=parts, compresslevel=6, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w|") as archive,
    ):
        for name, path in sorted(files.items()):
            entry = tarfile.TarInfo(name)  # no owner and no time: they are nothing of the file's
            entry.size = path.stat().st_size
            with path.open("rb") as file:
                archive.addfile(entry, file)
    manifest = {
        "format": FORMAT,
        "parts": [_entry(path.name, path) for path in parts.paths],
        "files": [_entry(name, path) for name, path in sorted(files.items())],
    }
    (to / MANIFEST).write_text(_render(manifest), encoding="utf-8")
    return manifest


def read(folder: Path) -> Manifest:
    """Read and check the manifest of a bundle. Raises BundleError naming the entry that no packing writes.

    Only plain names of parts and relative names of files pass, so that nothing outside a folder is read or written.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{folder} holds no readable {MANIFEST}: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"{folder / MANIFEST} is not of the format {FORMAT}")
    for kind, is_name in (("parts", _is_part), ("files", _is_below)):
        entries = manifest.get(kind)
        if not isinstance(entries, list) or not entries:
            raise BundleError(f"{folder / MANIFEST}: {kind}: expected a list of entries")
        for entry in entries:
            if not _is_entry(entry, is_name):
                raise BundleError(
                    f"{folder / MANIFEST}: {kind}: {json.dumps(entry)[:120]} has no name below the folder it is "
                    "unpacked in, or no bytes and sha256"
                )
        if len({entry["name"] for entry in entries}) != len(entries):
            raise BundleError(f"{folder / MANIFEST}: {kind}: a name stands twice")
    return manifest


def _is_entry(entry: Any, is_name: Callable[[str], bool]) -> bool:
    """Tell whether an entry of a manifest is {"name", "bytes", "sha256"} with values that `pack` could have written."""
    if not isinstance(entry, dict) or entry.keys() != {"name", "bytes", "sha256"}:
        return False
    name, size, digest = entry["name"], entry["bytes"], entry["sha256"]
    texts = isinstance(name, str) and isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) is not None
    return texts and type(size) is int and size >= 0 and is_name(name)


def _is_part(name: str) -> bool:
    return re.fullmatch(re.escape(PARTS) + r"\.[0-9]{3,}", name) is not None


def _is_below(name: str) -> bool:
    pieces = name.split("/")
    return all(piece and piece not in (".", "..") for piece in pieces) and not re.search(r"[\\:\0]", name)


def problems(manifest: Manifest, folder: Path) -> dict[str, str]:
    """Part -> "missing" or "damaged", for those that are not as the manifest says."""
    faults = {}
    for part in manifest["parts"]:
        path = folder / part["name"]
        if not path.is_file():
            faults[part["name"]] = "missing"
        elif path.stat().st_size != part["bytes"] or sha256(path) != part["sha256"]:
            faults[part["name"]] = "damaged"
    return faults


def unpack(folder: Path, to: Path) -> list[str]:
    """Take the parts that lie in `folder`; with the last one, write the files into `to`. Returns the parts yet to come.

    The manifest must come with the first part. Raises BundleError naming every damaged part, of which nothing is kept;
    the others are.
    """
    waiting = to / WAITING
    manifest = read(folder if (folder / MANIFEST).is_file() or not waiting.is_dir() else waiting)
    if (to / DONE).is_file() and (to / DONE).read_text(encoding="utf-8") == _render(manifest):
        return []
    if not (waiting / MANIFEST).is_file() or read(waiting) != manifest:  # the first part, or of another bundle
        shutil.rmtree(waiting, ignore_errors=True)
        waiting.mkdir(parents=True)
        (waiting / MANIFEST).write_text(_render(manifest), encoding="utf-8")
    offered, wanted = problems(manifest, folder), problems(manifest, waiting)
    for name in wanted.keys() - offered.keys():
        shutil.copyfile(folder / name, waiting / name)
    missing = problems(manifest, waiting)
    if damaged := [name for name, what in offered.items() if what == "damaged" and name in missing]:
        raise BundleError(f"damaged: {', '.join(damaged)}; bring them again")
    if not missing:
        _extract(manifest, [waiting / part["name"] for part in manifest["parts"]], to)
        shutil.rmtree(waiting)
    return list(missing)


def _extract(manifest: Manifest, parts: Sequence[Path], to: Path) -> None:
    expected = {file["name"]: file["sha256"] for file in manifest["files"]}
    sizes = {file["name"]: file["bytes"] for file in manifest["files"]}
    with tempfile.TemporaryDirectory(dir=to) as draft, io.BufferedReader(_Joined(parts), 2**20) as joined:
        with tarfile.open(fileobj=joined, mode="r|gz") as archive:
            for entry in archive:
                if not entry.isfile() or entry.name not in expected:
                    raise BundleError(f"the archive holds {entry.name!r}, which {MANIFEST} does not name")
                if entry.size != sizes[entry.name]:  # before a byte is written: a disk may be filled by a small archive
                    raise BundleError(f"{entry.name} has {entry.size} bytes, where {MANIFEST} says {sizes[entry.name]}")
                path = Path(draft, entry.name)
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as file:  # the `filter` of tarfile.extract came with Python 3.11.4
                    shutil.copyfileobj(cast(IO[bytes], archive.extractfile(entry)), file)
        for name, digest in expected.items():
            path = Path(draft, name)
            if not path.is_file() or sha256(path) != digest:
                raise BundleError(f"{name} did not come out as it went in")
        for name in expected:
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            Path(draft, name).replace(to / name)
    (to / DONE).write_text(_render(manifest), encoding="utf-8")


def _entry(name: str, path: Path) -> dict[str, Any]:
    return {"name": name, "bytes": path.stat().st_size, "sha256": sha256(path)}


def _render(manifest: Manifest) -> str:
    return json.dumps(manifest, indent=1) + "\n"


class _Parts(io.RawIOBase):
    """A stream that is written into numbered files of at most so many bytes."""

    def __init__(self, folder: Path, part_bytes: int) -> None:
        self.folder, self.part_bytes = folder, part_bytes
        self.paths: list[Path] = []
        self.left = 0  # bytes that still fit into the part at hand
        self.part: io.BufferedWriter | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        written = 0
        while written < len(view):
            if self.left == 0:
                self._next()
            assert self.part is not None
            piece = view[written : written + self.left]
            self.part.write(piece)
            written, self.left = written + len(piece), self.left - len(piece)
        return written

    def _next(self) -> None:
        if self.part is not None:
            self.part.close()
        self.paths.append(self.folder / f"{PARTS}.{len(self.paths):03}")
        self.part, self.left = self.paths[-1].open("wb"), self.part_bytes

    def close(self) -> None:
        if self.part is not None:
            self.part.close()
        super().close()


class _Joined(io.RawIOBase):
    """Several files read as one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self.part: io.BufferedReader | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while self.part is not None or self.paths:
            if self.part is None:
                self.part = self.paths.pop(0).open("rb")
            if count := self.part.readinto(buffer):
                return count
            self.part.close()
            self.part = None
        return 0

    def close(self) -> None:
        if self.part is not None:
            self.part.close()
        super().close()
