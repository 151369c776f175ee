"""Names that people type: the entry of a name, or an error that says which names are near."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


FEW = 8  # names that are all said
MOST = 30  # names that are said at all


def unknown(kind: str, name: str, names: Iterable[str]) -> ValueError:
    """Make the error for a name that does not exist.

    It says the nearest names, and all of them (the first 30 of many) where none is near or they are few.
    """
    names = sorted(names)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hints = [f"did you mean {' or '.join(near)}?"] if near else []
    if not near or len(names) <= FEW:
        hints.append(f"known: {', '.join(names[:MOST]) or 'none'}")
        if len(names) > MOST:
            hints[-1] += f" and {len(names) - MOST} more"
    return ValueError(f"unknown {kind} {name!r}; {' '.join(hints)}")


def pick(kind: str, name: str, entries: Mapping[str, T]) -> T:
    """Return the entry of that name. Raises ValueError with the nearest names."""
    if name not in entries:
        raise unknown(kind, name, entries)
    return entries[name]


def place(block: str) -> tuple[int | None, str]:
    """Return the layer and projection of a block's name: the first number inside it, and its last part.

    "model.layers.3.mlp.up_proj" is (3, "up_proj"); the layer of a block outside the layers ("lm_head") is None. The
    same answer as `smoe.blocks.place`, for code that may not import torch.
    """
    *path, projection = block.split(".")
    return next((int(part) for part in path if part.isdigit()), None), projection
