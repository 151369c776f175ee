"""What two copies of one document have in common: normalised text and hashes, equal on every machine."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

Doc = dict[str, Any]
KEYS = ("id", "ind", "idx", "source_id", "split")  # names that a data set gives a document; they say nothing


def normalised(text: str) -> str:
    """Lower case, letters and digits only, single spaces: what two copies of one text have in common."""
    return " ".join(re.findall(r"\w+", text.lower()))


def content(doc: Doc) -> str:
    """Everything a document says, without the key that its data set gives it."""
    plain = {name: value for name, value in doc.items() if name not in KEYS}
    return json.dumps(plain, sort_keys=True, ensure_ascii=False, default=str)


def text_hash(text: str) -> str:
    """Return the SHA-256 of the text in UTF-8, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(doc: Doc) -> str:
    """12 hex of a hash over the document, independent of key order, machine and Python version."""
    return text_hash(json.dumps(doc, sort_keys=True, ensure_ascii=False, default=str))[:12]


def halves(docs: Iterable[Doc], group: Callable[[Doc], str]) -> tuple[list[Doc], list[Doc]]:
    """Split the documents in two by a hash of each one's group, so the cut is the same on every machine."""
    parts: tuple[list[Doc], list[Doc]] = ([], [])
    for doc in docs:
        parts[1 - int(text_hash(normalised(group(doc)))[:8], 16) % 2].append(doc)
    return parts


def folder_hash(folder: Path) -> str:
    """12 hex of a hash over the files below a folder, names and contents; hidden files and caches are left out."""
    digest = hashlib.sha256()
    for file in sorted(_files(folder), key=lambda f: f.relative_to(folder).as_posix()):
        with file.open("rb") as opened:
            content_hash = hashlib.file_digest(opened, "sha256").hexdigest()
        digest.update(f"{file.relative_to(folder).as_posix()} {content_hash}\n".encode())
    return digest.hexdigest()[:12]


def _files(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*"):
        parts = file.relative_to(folder).parts
        if file.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in parts):
            yield file
