"""Names that people type: the entry of a name, or an error that says which names are near."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """Make the error for a name that does not exist; it says the nearest names, or all of them where none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known) or 'none'}"
    return ValueError(f"unknown {kind} {name!r}; {hint}")


def pick(kind: str, name: str, known: Mapping[str, T]) -> T:
    """Return the entry of that name. Raises ValueError with the nearest names."""
    if name not in known:
        raise unknown(kind, name, known)
    return known[name]


def place(block: str) -> tuple[int | None, str]:
    """Return the layer and projection of a block's name: the first number inside it, and its last part.

    "model.layers.3.mlp.up_proj" is (3, "up_proj"); the layer of a block outside the layers ("lm_head") is None. The
    same answer as `smoe.blocks.place`, for code that may not import torch.
    """
    *path, projection = block.split(".")
    return next((int(part) for part in path if part.isdigit()), None), projection
