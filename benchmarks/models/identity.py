"""A model is its content: which weights, configuration and tokeniser a name stands for, as one short hash.

Of a folder, every file that decides what is computed is hashed in full, whatever the folder is called; hashes are kept
in the cache by path, size and time of change, since large weights take seconds. Of a hub model it is the commit. Names
that this repository defines (the embedded model, `tiny`, `random:...`) stand for one content each, and have none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from huggingface_hub import HfApi, constants, try_to_load_from_cache

from benchmarks.models.assets import cache, sha256
from benchmarks.models.load import EMBEDDED, RANDOM, TINY
from benchmarks.models.remote import UNREACHABLE, may_pass, patiently, refusal
from results.files import write_whole

TIMEOUT_SECONDS = 20.0
DECISIVE = (
    "config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*", "vocab*",
    "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model", "*.py",
)  # fmt: skip


def canonical(name: str) -> str:
    """Return the one spelling of a model's name: a path whole and without links, any other name as it is."""
    if name in (EMBEDDED, TINY) or name.startswith(RANDOM):
        return name
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name


def content(name: str) -> str | None:
    """Return 12 hex over a folder's or GGUF file's content, a hub model's commit, or None for a name defined here.

    None as well, where nothing may ask the hub, for a hub model that is not in the cache. Raises ValueError for one
    that the hub does not give, with what to do.
    """
    if name in (EMBEDDED, TINY) or name.startswith(RANDOM):
        return None
    path = Path(name).expanduser()
    if path.is_file():
        return _hash(path)[:12]
    if not path.is_dir():
        return _commit(name)
    files = sorted({file for pattern in DECISIVE for file in path.glob(pattern) if file.is_file()})
    digest = hashlib.sha256("".join(f"{file.name} {_hash(file)}\n" for file in files).encode())
    return digest.hexdigest()[:12]


def check_unchanged(name: str, planned: str | None) -> None:
    """Raise ValueError where the files of a local model are not those that the run was planned with."""
    if planned is None or not Path(name).expanduser().exists():
        return
    if (now := content(name)) != planned:
        raise ValueError(
            f"the files of model {name} changed after the run was planned ({planned} then, {now} now); "
            "run the same command again for the new ones"
        )


def checked_revision(name: str, planned: str | None) -> str | None:
    """Return the commit to load a hub model at, None for anything else. Raises ValueError as `check_unchanged` does."""
    check_unchanged(name, planned)
    return None if Path(name).expanduser().exists() else planned


def _commit(name: str) -> str | None:
    try:
        return str(patiently(lambda: HfApi().model_info(name, timeout=TIMEOUT_SECONDS)).sha)
    except UNREACHABLE as error:
        cached = try_to_load_from_cache(name, "config.json")
        if isinstance(cached, str) and (constants.HF_HUB_OFFLINE or may_pass(error)):
            return Path(cached).parent.name
        if constants.HF_HUB_OFFLINE:
            return None
        otherwise = "a folder that holds the model, or one of --list"
        raise ValueError(refusal(f"model {name}", error, name, otherwise)) from error


def _hash(file: Path) -> str:
    """Return the SHA-256 of a file's content, from the cache where neither size nor time of change moved."""
    file = file.resolve()
    state = file.stat()
    version = [str(file), state.st_size, state.st_mtime_ns]
    kept = cache() / "hashes" / f"{hashlib.sha256(str(file).encode()).hexdigest()[:16]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(kept.read_text())
        if known["version"] == version:
            return str(known["sha256"])
    digest = sha256(file)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, no more
        write_whole(kept, json.dumps({"version": version, "sha256": digest}))
    return digest
