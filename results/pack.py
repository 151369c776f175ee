"""Packs: the records of a campaign in one file, a JSON object a line, compressed with xz; an index of them as CSV.

A line is a record's file as it was written, digest included, so that nothing is lost or changed on the way in.
"""

from __future__ import annotations

import csv
import io
import json
import lzma
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from results.files import write_whole
from results.spec import RecordError
from results.table import inert

SUFFIX = ".jsonl.xz"
PACKS = f"*{SUFFIX}"
LARGEST = 2**31  # bytes a pack may hold once it is unpacked
INDEX = ("key", "schema", "status", "suite", "model", "method", "seed", "digest")


def write_pack(bodies: Mapping[str, Mapping[str, Any]], file: Path) -> Path:
    """Write the bodies of records' files, by key, and the index beside them; the same records give the same bytes.

    Returns the path of the index. Raises ValueError for a name that no store would look for, or OSError.
    """
    if not file.name.endswith(SUFFIX):
        raise ValueError(f"{file.name}: the name of a pack ends in {SUFFIX}")
    lines = [json.dumps(bodies[key], separators=(",", ":")) for key in sorted(bodies)]
    write_whole(file, lzma.compress("".join(f"{line}\n" for line in lines).encode("utf-8")))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(INDEX)
    for key in sorted(bodies):
        fields = {**bodies[key]["spec"], **bodies[key]}
        writer.writerow([inert(str(fields[name])) for name in INDEX])
    index = file.with_name(file.name.removesuffix(SUFFIX) + ".csv")
    write_whole(index, table.getvalue())
    return index


def read_pack(file: Path) -> Iterator[bytes]:
    """Yield the lines of a pack. Raises RecordError for what is no pack, or OSError."""
    if not file.is_file():
        raise RecordError(f"{file}: not a regular file")
    unpacked = 0
    try:
        with lzma.open(file, "rb") as lines:
            while line := lines.readline(LARGEST):
                unpacked += len(line)
                if unpacked > LARGEST:
                    raise RecordError(f"{file}: unpacks to more than {LARGEST} bytes")
                yield line
    except (lzma.LZMAError, EOFError) as error:
        raise RecordError(f"{file}: no whole pack: {error}") from error
