"""An ad-hoc suite: any tasks that lm-eval defines (`--tasks`), one's own among them (`--include-path`).

Its tables show `acc_norm` where a task reports it, else `acc`, else the task's first metric.
"""

from __future__ import annotations

from benchmarks import registry
from benchmarks.data.tasks import headline, settings
from benchmarks.suites import Suite
from results import RunSpec
from results.names import pick

NAME = "custom"


def suite(tasks: tuple[str, ...]) -> Suite:
    """Make the suite of these tasks. Raises ValueError for a task that is unknown or cannot be trained on."""
    if not all(tasks) or len(set(tasks)) != len(tasks):
        raise ValueError(f"tasks {','.join(tasks)!r}: expected names of lm-eval tasks, each once, like arc_easy,sciq")
    if files := [task for task in tasks if "/" in task or task.endswith((".json", ".jsonl", ".yaml", ".yml"))]:
        raise ValueError(
            f"tasks {','.join(files)!r}: a file is no task; write a task that names it (examples/own_task) and give "
            "its folder as --include-path"
        )
    definitions = {task: settings(task) for task in tasks}
    kinds = {task: said.get("output_type", "generate_until") for task, said in definitions.items()}
    if rolling := [task for task, kind in kinds.items() if kind == "loglikelihood_rolling"]:
        raise ValueError(f"task {', '.join(rolling)} has no answer to train on")
    written = "generate_until" in kinds.values()
    return Suite(
        name=NAME,
        summary="tasks named on the command line",
        tasks=tasks,
        headline={task: headline(said) for task, said in definitions.items()},
        protocol="lm-eval" if written else "loglik",
    )


def suite_of(spec: RunSpec) -> Suite:
    """Return the suite of a job. Raises ValueError for one that does not exist."""
    return suite(spec.tasks) if spec.suite == NAME else pick("suite", spec.suite, registry.suites())
