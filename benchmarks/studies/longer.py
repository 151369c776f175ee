"""Does longer training change the answer? Three passes over the documents beside one: `study longer`."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.jobs import asking
from benchmarks.plan.questions import Arm, Question, Scale
from results.studies.study import Contrast

PASSES = (1, 3)
LORA, SMOE, CHANCE = "lora", "lora-smoe", "random-experts"
METHODS = (LORA, SMOE, CHANCE)


def label(method: str, passes: int) -> str:
    """Name an arm."""
    return f"{method}, {passes} {'pass' if passes == 1 else 'passes'}"


def arms(scale: Scale) -> Sequence[Arm]:
    """LoRA, LoRA-SMoE and the same numbers of experts at random, each for one pass and for three."""
    matched = {} if scale.size.name == "tiny" else {"match": "params"}  # one expert of tiny is more than 2%
    return [
        Arm(label=label(method, passes), request={"methods": method, "epochs": float(passes), **matched})
        for passes in PASSES
        for method in METHODS
    ]


def contrasts(scale: Scale) -> Sequence[Contrast]:
    """LoRA-SMoE against LoRA after the longest training decides; placement, and what the passes bring, stand beside."""
    longest = PASSES[-1]
    against = [
        Contrast(
            name=f"{SMOE} against {other}, {passes} {'pass' if passes == 1 else 'passes'}",
            arm=label(SMOE, passes),
            reference=label(other, passes),
            decides=passes == longest and other == LORA,
        )
        for passes in reversed(PASSES)
        for other in (LORA, CHANCE)
    ]
    gains = [
        Contrast(
            name=f"{method}: {longest} passes against one", arm=label(method, longest), reference=label(method, 1),
            decides=False,
        )
        for method in METHODS
    ]  # fmt: skip
    return [*against, *gains]


QUESTION = Question(
    name="longer",
    question="Does longer training bring out what experts are worth: is LoRA-SMoE better than LoRA after three passes?",
    design="LoRA, LoRA-SMoE and its numbers of experts on random blocks, at equal trainable parameters, trained for "
    "one pass over the documents and for three, each with a schedule of its own length; the same documents in all.",
    yes="after three passes LoRA-SMoE is better than LoRA",
    no="it is worse, or equivalent within the margin",
    undecided="anything else",
    arms=arms,
    contrasts=contrasts,
)
app = asking.app(QUESTION)
