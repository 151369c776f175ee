"""Does placing matter where capacity is scarce? A quarter of an expert a block, one, and four: `study scarcity`."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.jobs import asking
from benchmarks.plan.questions import Arm, Question, Scale
from results.studies.study import Contrast

MEANS = (0.25, 1.0, 4.0)  # experts a block, the scarcest first
ALLOCATIONS = (0, 1)  # random ones
RANK = 8


def means(scale: Scale) -> Sequence[float]:
    """At size tiny the two ends show that it works."""
    return (MEANS[0], MEANS[-1]) if scale.size.name == "tiny" else MEANS


def arms(scale: Scale) -> Sequence[Arm]:
    """LoRA-SMoE, random and reversed allocations, and ranks, at each mean; long form: more means and r 1."""
    made = []
    for mean in means(scale):
        total = max(round(mean * scale.blocks), 1)
        methods = {
            "lora-smoe": f"lora-smoe:total_experts={total}",
            **{f"random {i}": f"random-experts:total_experts={total}:allocation_seed={i}" for i in ALLOCATIONS},
            "reversed": f"inverse-experts:total_experts={total}",
            "ranks": f"sensitive-ranks:total_ranks={RANK * total}:min_rank=0:r={round(RANK * mean)}:scale=equal",
        }
        made += [Arm(label=f"{n} at {mean:g}", request={"methods": text}) for n, text in methods.items()]
    return made


def contrasts(scale: Scale) -> Sequence[Contrast]:
    """Let the scarcest mean decide: there the premise shows, or nowhere."""
    return [
        Contrast(
            name=f"{mean:g} experts a block: against {other}",
            arm=f"lora-smoe at {mean:g}",
            reference=f"{other} at {mean:g}",
            decides=mean == means(scale)[0] and other.startswith("random"),
        )
        for mean in means(scale)
        for other in (*(f"random {i}" for i in ALLOCATIONS), "reversed", "ranks")
    ]


QUESTION = Question(
    name="scarcity",
    question="Does placing experts by sensitivity matter where capacity is scarce?",
    design="LoRA-SMoE against two random allocations of the same numbers, the reversed ranking and the same score "
    "spent as ranks, at a mean of a quarter of an expert a block, one, and four, rank 8. The scarcest decides.",
    yes="at the scarcest mean LoRA-SMoE is better than both random allocations",
    no="at the scarcest mean it is worse than both or equivalent to them within the margin",
    undecided="anything else",
    arms=arms,
    contrasts=contrasts,
)
app = asking.app(QUESTION)
