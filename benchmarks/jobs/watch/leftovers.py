"""What a killed sweep leaves behind: parts of records and specs of jobs that nobody has in hand any more."""

from __future__ import annotations

import contextlib
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from results.store import is_key

SPEC = ".spec.json"
DAY = 86400.0  # seconds; a part of a file that is no record's goes when it is so old


@contextmanager
def claim(folder: Path, key: str) -> Iterator[bool]:
    """Hold a job alone among the sweeps over a folder; gives False where another has it in hand.

    The lock ends with the process, however it ends; its file, which says nothing, stays.
    """
    try:
        import fcntl
    except ImportError:  # no file locks on this platform: two runs would both do the job
        yield True
        return
    locks = folder / "locks"
    locks.mkdir(exist_ok=True)
    with (locks / f"{key}.lock").open("w") as file:
        held = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held = False
        except OSError as error:  # a file system without locks: two runs would both do the job
            warnings.warn(f"{locks} cannot be locked ({error}): start one run at a time there", stacklevel=3)
        yield held


def clean(folder: Path) -> list[Path]:
    """Delete parts of records and adapters, and specs of jobs that no sweep has in hand. Returns what was deleted."""
    gone = []
    for path in [*folder.glob(".*.part"), *(folder / "logs").glob(f"*{SPEC}")]:
        key = path.name.removesuffix(SPEC) if path.name.endswith(SPEC) else path.name[1:].partition(".json.")[0]
        with contextlib.suppress(OSError):
            if not is_key(key):
                if time.time() - path.stat().st_mtime > DAY:
                    path.unlink()
                    gone.append(path)
                continue
            with claim(folder, key) as held:
                if held:
                    path.unlink(missing_ok=True)
                    gone.append(path)
    for path in (folder / "adapters").glob(".*.part"):
        with claim(folder, path.name[1:].removesuffix(".part")) as held:
            if held:
                shutil.rmtree(path, ignore_errors=True)
                gone.append(path)
    return gone
