"""Wheels for a machine without a package registry: what this project needs, in the versions installed here.

Needed is what pyproject.toml asks for, the `test` extra included, and whatever that needs in turn, less what the other
machine has: by default torch, transformers and numpy with all they bring. Unzipped into one folder on `PYTHONPATH` they
work as installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
THERE = ("torch", "transformers", "numpy")  # what a GPU image has in versions that fit its driver


class WheelError(RuntimeError):
    """A wheel cannot be had; the message names it."""


def download(folder: Path, python: str, platform: str, without: Sequence[str] = THERE) -> list[Path]:
    """Put the wheels for that Python ("3.12") and platform ("manylinux_2_28_x86_64") into `folder`, by pip.

    A package without wheels in the registry is built here where the result runs anywhere. Raises WheelError naming what
    is not installed here or has no wheel, ValueError for another kind of platform.
    """
    tags = platforms(platform)
    specs = [f"{name}=={version}" for name, version in needed(python, tags[0], without).items()]
    folder.mkdir(parents=True, exist_ok=True)
    wanted = ["--python-version", python, "--implementation", "cp", *(f"--platform={tag}" for tag in tags)]
    _pip("download", "--no-deps", "--dest", str(folder), *wanted, *specs)
    for source in [path for path in folder.iterdir() if path.suffix != ".whl"]:
        with tempfile.TemporaryDirectory() as built:
            _pip("wheel", "--no-deps", "--wheel-dir", built, str(source))
            (wheel,) = Path(built).iterdir()
            if not wheel.name.endswith("-none-any.whl"):
                raise WheelError(f"{source.name} has no wheel for Python {python} on {platform}; name it in --without")
            shutil.copyfile(wheel, folder / wheel.name)
        source.unlink()
    return sorted(folder.glob("*.whl"))


def platforms(platform: str) -> list[str]:
    """Return the tag and those of every older glibc, since pip takes each by its letter."""
    tag = re.fullmatch(r"manylinux_2_(\d+)_(\w+)", platform)
    if tag is None:
        raise ValueError(f"platform {platform!r} is not of the form manylinux_2_28_x86_64")
    newest, machine = int(tag[1]), tag[2]
    older = [f"manylinux_2_{minor}_{machine}" for minor in range(newest, 4, -1)]
    named = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    return [*older, *(f"{name}_{machine}" for minor, name in named.items() if minor <= newest)]


def needed(python: str, platform: str, without: Iterable[str]) -> dict[str, str]:
    """Package -> version installed here, for everything the project needs there but `without` and what those bring."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["report"], *extras["bench"], *extras["test"]]
    asked = [requirement for requirement in asked if not requirement.startswith(f"{project['name']}[")]
    machine = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": platform.split("_", 3)[-1],
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "sys_platform": "linux",
    }
    there = _closure(without, machine, {}, tolerant=True)
    return dict(sorted(_closure(asked, machine, there).items()))


def _closure(
    requirements: Iterable[str], machine: Mapping[str, str], stop: Mapping[str, str], tolerant: bool = False
) -> dict[str, str]:
    """Package -> version of all that the requirements need on that machine; at a package in `stop` the walk turns back.

    tolerant: what is not installed here is passed over. Raises WheelError naming it otherwise.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    versions: dict[str, str] = {}
    seen = set()
    queue = [(Requirement(text), "") for text in requirements]
    while queue:
        requirement, extra = queue.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({**machine, "extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        if name in stop:
            continue
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            if tolerant:
                continue
            raise WheelError(
                f"{name} is needed there and not installed here; install it, or name it in --without"
            ) from None
        versions[name] = package.version
        for option in ("", *requirement.extras):
            if (name, option) not in seen:
                seen.add((name, option))
                queue += [(Requirement(text), option) for text in package.requires or ()]
    return versions


def install(wheels: Iterable[Path], site: Path) -> None:
    """Unzip the wheels into `site`: libraries and their metadata, no scripts."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                top, _, rest = entry.filename.partition("/")
                if top.endswith(".data"):
                    kind, _, entry.filename = rest.partition("/")
                    if kind not in ("purelib", "platlib"):
                        continue
                if entry.filename:
                    archive.extract(entry, site)  # which leaves out ".." and a leading "/"


def _pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *arguments, "--quiet"], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise WheelError(f"pip {arguments[0]} failed: {' '.join(errors or done.stderr.splitlines()[-1:])}")
