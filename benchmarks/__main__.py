"""`python -m benchmarks` lists the commands of the suite; `python -m benchmarks COMMAND ...` runs one."""

from __future__ import annotations

import runpy
import sys

from results.names import unknown

COMMANDS = {
    "run": "train and evaluate methods on a suite, print the table, draw the report: the main job",
    "study": "answer a question that takes more than one table; without a name, lists them",
    "adapter": "hand out a trained adapter that a run kept (--keep-adapters), as a PEFT folder",
    "replicate": "run a committed row again, here, and say whether it agrees",
    "status": "what a running sweep does, how far it is, what failed and when it ends",
    "compare": "judge two folders of records; exit status 1 on a regression",
    "gate": "run a small job here and at the baseline's commit, and compare: for CI",
    "speed": "time and memory as ratios, measured side by side",
    "offline.assets": "fetch, verify, pack and unpack model and data for a machine without a network",
    "offline.gpu_pass": "what a GPU node that is there for minutes can tell",
}
WHERE = {"replicate": "gate.replicate"}  # commands that are no module of this folder
# What `pip install smoe-bench` leaves out and the extra `bench` brings, as it is imported.
EXTRA = (
    "datasets", "gguf", "huggingface_hub", "jinja2", "lm_eval", "numpy", "pandas", "pyarrow", "pydantic", "scipy",
    "statsmodels", "yaml",
)  # fmt: skip


def main(arguments: list[str]) -> int:
    """List the commands, or run the one that is named with the arguments after it. Returns the exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("python -m benchmarks.COMMAND, each with --help:\n")
        print("\n".join(f"  {name:18}{summary}" for name, summary in COMMANDS.items()))
        print("\nTables, figures and the page from records alone: python -m reports --help")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"error: {unknown('command', name, COMMANDS)}", file=sys.stderr)
        return 2
    sys.argv = [f"python -m benchmarks.{name}", *rest]
    try:
        runpy.run_module(
            f"benchmarks.{WHERE.get(name, name)}", run_name="__main__"
        )  # ends with the command's own exit status
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in EXTRA:
            raise
        print(f"error: {error.name} is not installed; pip install 'smoe-bench[bench]'", file=sys.stderr)
        return 2
    return 0


def script() -> None:
    """Be the console script `smoe-bench`."""
    raise SystemExit(main(sys.argv[1:]))


if __name__ == "__main__":
    script()
