"""Is there interference to solve? One adapter for several tasks against one for each: `study interference`."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.jobs import asking
from benchmarks.plan.questions import Arm, Question, Scale
from results.studies.study import Contrast

COUNTS = (2, 4, 8, 19)  # tasks; those that the suite has


def counts(scale: Scale) -> list[int]:
    """Numbers of tasks that are trained together; the last is all that there are."""
    return sorted({min(n, len(scale.tasks)) for n in COUNTS})


def arms(scale: Scale) -> Sequence[Arm]:
    """LoRA trained on the first n tasks together, and on each of all tasks alone, on the same documents of a task."""
    together = [Arm(label=f"{n} tasks together", request={"methods": "lora"}, tasks=n) for n in counts(scale)]
    return [Arm(label="each alone", request={"methods": "lora", "adapters": "per-task"}), *together]


def contrasts(scale: Scale) -> Sequence[Contrast]:
    """Most tasks together against each alone decides."""
    return [
        Contrast(
            name=f"{n} tasks together against each alone",
            arm=f"{n} tasks together",
            reference="each alone",
            tasks=scale.tasks[:n],
            yes=("worse",),
            no=("better", "equivalent"),
            decides=n == counts(scale)[-1],
        )
        for n in counts(scale)
    ]


QUESTION = Question(
    name="interference",
    question="Is there interference to solve: does one adapter for many tasks answer worse than one for each?",
    design="LoRA of one rank on 2, 4, 8 (with suite mixed 19) tasks together and on each task alone, the same "
    "documents of a task in both; a task alone sees its own share of the steps. Without interference no mixture can "
    "help by keeping tasks apart.",
    yes="with most tasks together, the shared adapter is worse than one for each",
    no="it is better, or equivalent within the margin",
    undecided="anything else",
    arms=arms,
    contrasts=contrasts,
)
app = asking.app(QUESTION)
