"""Run probes by name: `python tests/probes S2 L1`, or all of them without a name.

A probe shows an input for which the suite did something wrong or unsaid; it prints what happens today. What has been
mended is a test elsewhere. Every probe runs in a temporary folder of its own.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(1, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Processes that a probe starts import the suite from here as well.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))

import probes_data  # noqa: E402
import probes_models  # noqa: E402
import probes_runs  # noqa: E402

PROBES = {
    name: probe
    for module in (probes_data, probes_models, probes_runs)
    for name, probe in vars(module).items()
    if name[:1] in "SLC" and name[1:].isdigit()
}


def main(names: list[str]) -> None:
    """Run the probes of those names in turn; one that ends with an error says so."""
    if unknown := [name for name in names if name not in PROBES]:
        sys.exit(f"no probe {', '.join(unknown)}; there are {', '.join(sorted(PROBES))}")
    for name in names or sorted(PROBES, key=lambda n: ("SLC".index(n[0]), int(n[1:]))):
        doc = (PROBES[name].__doc__ or "").strip()
        print(f"{name}: {doc}")
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            try:
                with contextlib.redirect_stderr(io.StringIO()):
                    PROBES[name]()
            except Exception as error:
                print("   RAISED", type(error).__name__, str(error)[:200])
        os.environ.pop("SMOE_TASKS", None)


if __name__ == "__main__":
    main(sys.argv[1:])
