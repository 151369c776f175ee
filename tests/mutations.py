"""Seeded mutations of JSON bodies and of bytes: what a damaged disk, an editor or an enemy makes of a file."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

ODD = (
    None, True, False, 0, -1, 3.5, 1e308, 10**40, float("nan"), float("inf"), "", "x", "../../x", "/etc/passwd",
    "\x00", "é" * 300, "<script>alert(1)</script>", "!!python/object/apply:os.system [id]", [], {}, [[]], {"": None},
    [None], {"a": {"b": []}},
)  # fmt: skip


def places(body: Any, path: tuple = ()) -> Iterator[tuple]:
    """Paths of every value inside."""
    entries = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for name, value in entries:
        yield (*path, name)
        yield from places(value, (*path, name))


def mutated(body: Any, rng: random.Random) -> Any:
    """Change one to three places: another value, gone, doubled, under another name, or wrapped."""
    body = copy.deepcopy(body)
    for _ in range(rng.randint(1, 3)):
        everywhere = list(places(body))
        if not everywhere:
            return rng.choice(ODD)
        # Half of the time near the top, where a large body would else hardly ever be hit.
        near = [path for path in everywhere if len(path) <= 2]
        *path, name = rng.choice(near if rng.random() < 0.5 else everywhere)
        parent = body
        for part in path:
            parent = parent[part]
        what = rng.randrange(5)
        if what == 0:
            del parent[name]
        elif what == 1 and isinstance(parent, dict):
            parent[f"{name}{rng.choice(['', 's', ' ', chr(0)])}x"] = parent[name]
        elif what == 2:
            parent[name] = [parent[name]]
        else:
            parent[name] = copy.deepcopy(rng.choice(ODD))
    return body


def damaged(text: bytes, rng: random.Random) -> bytes:
    """Cut, flip, double or replace bytes."""
    at = rng.randrange(len(text) + 1)
    what = rng.randrange(6)
    if what == 0:
        return text[:at]
    if what == 1:
        return text[:at] + bytes([rng.randrange(256)]) + text[at + 1 :]
    if what == 2:
        return text[:at] + text[: rng.randrange(200)] + text[at:]
    if what == 3:
        return text[:at] + rng.choice([b"\xff\xfe", b"\x00", b"NaN", b"1e999", b"[" * 100_000, b"- !!python/name:os"])
    if what == 4:
        return b""
    return text[at:]


def files(body: Any, count: int, seed: int) -> Iterator[bytes]:
    """Give so many mutated JSON files, one in four of them damaged as bytes."""
    rng = random.Random(seed)
    whole = json.dumps(body).encode()
    for number in range(count):
        yield damaged(whole, rng) if number % 4 == 3 else json.dumps(mutated(body, rng)).encode()
