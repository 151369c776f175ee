"""The readers of earlier versions of a record: its body in the fields of the newest version.

Such a record keeps its stored key, which is that of a hash over the words of its own time, and says its schema.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

# Fields that came while schema 1 was in use: at these values they are left out of its key's hash.
_LATER_1 = {
    "match": "none", "split": "evaluation", "adapters": "multi", "quantize": "none", "allocator": "heap",
    "trust_remote_code": False, "revisions": None, "own_tasks": None, "compiled": False,
}  # fmt: skip
_WORDS_1 = {"mixture": "task_shares", "allocator": "malloc"}
_ADAPTERS_1 = {"multi": "shared", "single": "per-task"}


def key_1(spec: Mapping[str, Any]) -> str:
    """Compute the key that schema 1 gave a spec."""
    asked = {name: value for name, value in spec.items() if name not in _LATER_1 or value != _LATER_1[name]}
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:8]
    model = "".join(c if c.isalnum() or c in "._-" else "-" for c in spec["model"].rstrip("/").split("/")[-1])
    return f"{spec['suite']}--{model}--{spec['method']}--s{spec['seed']}--{digest}"


def from_1(body: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the words of the spec. Raises ValueError where the key is not that of the spec."""
    spec = body["spec"]
    if new := sorted(set(spec) & set(_WORDS_1.values())):
        raise ValueError(f"spec: unknown fields {', '.join(new)}")
    key = key_1(spec)
    if key != body.get("key"):
        raise ValueError(f"key {body.get('key')!r} does not belong to its spec (expected {key!r}): edited by hand?")
    words = {_WORDS_1.get(name, name): value for name, value in spec.items()}
    words["adapters"] = _ADAPTERS_1[words.get("adapters", "multi")]
    return {**body, "spec": words}


UPGRADES: dict[int, Callable[[Mapping[str, Any]], dict[str, Any]]] = {1: from_1}
