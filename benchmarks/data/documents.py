"""What documents have in common (text, source, near-duplicate passages), and their cut and order, by content alone.

Nothing here depends on a seed, a machine or the order in which documents were read.
"""

from __future__ import annotations

import datetime
import decimal
import hashlib
import json
import re
import unicodedata
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

Doc = dict[str, Any]
KEYS = ("id", "ind", "idx", "source_id", "split")  # names that a data set gives a document; they say nothing
WEIGHTS = (".bin", ".gguf", ".pt", ".pth", ".safetensors")  # files of models, which are no documents
SHINGLE = 8  # words in a row that near-duplicates are compared by
NEAR = 0.3  # Jaccard similarity of two texts' shingles from which on they are near-duplicates


def normalised(text: str) -> str:
    """Lower case, letters and digits only, single spaces: what two copies of one text have in common."""
    return " ".join(re.findall(r"\w+", text.lower()))


def same_text(text: str) -> str:
    """Fold case, width of characters and spaces alone: signs, symbols and vowel signs tell two texts apart."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def content(doc: Doc) -> str:
    """Everything a document says, without the key that its data set gives it. Raises ValueError as `fingerprint`."""
    return _as_json({name: value for name, value in doc.items() if name not in KEYS})


def text_hash(text: str) -> str:
    """Return the SHA-256 of the text in UTF-8, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(doc: Doc) -> str:
    """12 hex of a hash over the document, independent of key order, machine and Python version.

    Raises ValueError naming the column for a value that has no content of its own, such as an open image.
    """
    return text_hash(_as_json(doc))[:12]


def _as_json(doc: Doc) -> str:
    try:
        return json.dumps(doc, sort_keys=True, ensure_ascii=False, default=_plain)
    except TypeError:
        for name, value in doc.items():
            try:
                json.dumps(value, default=_plain)
            except TypeError as error:
                raise ValueError(
                    f"column {name!r}: {error}, so that two documents cannot be told apart; take it out of the data"
                ) from None
        raise


def _plain(value: Any) -> str:
    """Write what JSON has no word for: bytes by their hash, dates and exact numbers as text. Raises TypeError."""
    if isinstance(value, bytes):
        return f"sha256:{hashlib.sha256(value).hexdigest()}"
    if isinstance(value, datetime.date | datetime.time | datetime.timedelta | decimal.Decimal):
        return str(value)
    raise TypeError(f"a {type(value).__name__} has no content that can be hashed")


def halves(docs: Sequence[Doc], groups: Sequence[str]) -> tuple[list[Doc], list[Doc]]:
    """Split the documents in two by a hash of each one's group, so the cut is the same on every machine."""
    parts: tuple[list[Doc], list[Doc]] = ([], [])
    for doc, group in zip(docs, groups, strict=True):
        parts[1 - int(text_hash(group)[:8], 16) % 2].append(doc)
    return parts


def near_duplicates(texts: Sequence[str]) -> list[int]:
    """Give numbers to texts so that near-duplicates, and what they are chained to, have one number.

    texts: normalised. Two are near-duplicates where the sets of their 8-grams of words have a Jaccard similarity of
    `NEAR` or more; all pairs are compared. A shorter text is its own only shingle.
    """
    if not texts:
        return []
    unique = sorted(set(texts))
    columns: dict[str, int] = {}
    rows = [[columns.setdefault(shingle, len(columns)) for shingle in _shingles(text)] for text in unique]
    sizes = np.array([len(row) for row in rows], dtype=np.int64)
    cells = (np.repeat(np.arange(len(rows)), sizes), np.concatenate([np.array(row, dtype=np.int64) for row in rows]))
    has = csr_array((np.ones(sizes.sum(), dtype=np.int64), cells), shape=(len(rows), len(columns)))
    shared = (has @ has.T).tocoo()  # shingles that two texts have in common
    first, second = shared.coords
    near = shared.data >= NEAR * (sizes[first] + sizes[second] - shared.data)
    number = _components(first[near], second[near], len(unique))
    return [int(number[i]) for i in np.searchsorted(np.array(unique), np.array(texts))]


def groups(texts: Sequence[str], links: Sequence[Sequence[Hashable]] = ()) -> list[str]:
    """Name each document's group: the first text, in alphabetical order, of all that are linked to it.

    texts: of each document, normalised; equal ones are linked. links: of each further kind, a value of each document;
    documents of one value are linked.
    """
    if not texts:
        return []
    keys: dict[tuple[int, Hashable], int] = {}
    ends = [
        (i, keys.setdefault((kind, value), len(texts) + len(keys)))
        for kind, values in enumerate((texts, *links))
        for i, value in enumerate(values)
    ]
    documents, linked = np.array(ends, dtype=np.int64).reshape(-1, 2).T
    number = _components(documents, linked, len(texts) + len(keys))[: len(texts)].tolist()
    first: dict[int, str] = {}
    for n, text in zip(number, texts, strict=True):
        first[n] = min(text, first.get(n, text))
    return [first[n] for n in number]


def stratified(docs: Sequence[Doc], columns: Sequence[str]) -> list[Doc]:
    """Order documents so that every prefix has the shares of the whole, of the first column above all.

    The k-th of a stratum's n documents stands at (k + 1/2) / n of the way. Inside a stratum the next column decides,
    at the last the fingerprint. Of a value like "wikihow~1234" the part before the ~ counts.
    """
    if not columns:
        return sorted(docs, key=fingerprint)
    strata: dict[str, list[Doc]] = {}
    for doc in docs:
        strata.setdefault(str(doc.get(columns[0])).partition("~")[0], []).append(doc)
    placed = [
        ((k + 0.5) / len(stratum), value, doc)
        for value, stratum in sorted(strata.items())
        for k, doc in enumerate(stratified(stratum, columns[1:]))
    ]
    return [doc for *_, doc in sorted(placed, key=lambda entry: entry[:2])]


def _shingles(text: str) -> set[str]:
    words = text.split()
    return {" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}


def _components(first: np.ndarray, second: np.ndarray, count: int) -> np.ndarray:
    """Return the connected component of each of `count` nodes, by number; the arrays are the ends of the edges."""
    edges = csr_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(count, count))
    return connected_components(edges, directed=False)[1]


def folder_hash(folder: Path) -> str:
    """12 hex of a hash over the files below a folder, names and contents; hidden files, caches and weights left out."""
    digest = hashlib.sha256()
    for file in sorted(_files(folder), key=lambda f: f.relative_to(folder).as_posix()):
        with file.open("rb") as opened:
            content_hash = hashlib.file_digest(opened, "sha256").hexdigest()
        digest.update(f"{file.relative_to(folder).as_posix()} {content_hash}\n".encode())
    return digest.hexdigest()[:12]


def _files(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*"):
        parts = file.relative_to(folder).parts
        if (
            file.is_file()
            and file.suffix not in WEIGHTS
            and not any(part.startswith(".") or part == "__pycache__" for part in parts)
        ):
            yield file
