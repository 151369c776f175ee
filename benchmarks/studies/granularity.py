"""Is it experts, or is it ranks? One adapter of rank 32 cut into 2, 4, ... 32 experts: `study granularity`."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.jobs import asking
from benchmarks.plan.questions import Arm, Question, Scale
from results.studies.study import Contrast
from smoe import block_params

WHOLE = 32  # experts times their rank
CUTS = (2, 4, 8, 16, 32)  # experts
DECIDES = 4  # what every mixture here has by default
SINGLE = 24  # ranks of SMoRA


def cuts(scale: Scale) -> Sequence[int]:
    """At size tiny the default and the finest show that it works."""
    return (DECIDES, WHOLE) if scale.size.name == "tiny" else CUTS


def label(experts: int) -> str:
    """Name a cut."""
    return f"{experts} x rank {WHOLE // experts}"


def as_large(scale: Scale, experts: int, r: int) -> int:
    """Return the rank of one adapter with as many parameters as so many experts and their router, to the nearest."""
    wanted = sum(block_params(shape, experts, r) for shape in scale.shapes.values())
    return round(wanted / sum(map(sum, scale.shapes.values())))


def mixtures(scale: Scale) -> dict[str, tuple[str, int]]:
    """Return {label: (contestant, rank of one adapter as large)}."""
    made = {label(e): (f"molora:num_experts={e}:r={WHOLE // e}", as_large(scale, e, WHOLE // e)) for e in cuts(scale)}
    return {**made, f"smora, {SINGLE} ranks": (f"smora:r={SINGLE}", as_large(scale, SINGLE, 1))}


def arms(scale: Scale) -> Sequence[Arm]:
    """Soft MoLoRA at every cut, SMoRA, whose tokens use the best of single ranks, and for each one adapter as large.

    A router grows with its experts, so that the whole adapters differ in rank; the nearest rank is at most half a rank
    off, 1.5% of 32.
    """
    mixed = mixtures(scale)
    made = [Arm(label=name, request={"methods": method}) for name, (method, _) in mixed.items()]
    ranks = sorted({rank for _, rank in mixed.values()})
    return [*made, *(Arm(label=f"1 x rank {r}", request={"methods": f"molora:num_experts=1:r={r}"}) for r in ranks)]


def contrasts(scale: Scale) -> Sequence[Contrast]:
    """Let the default number of experts against one adapter decide; the rest is beside."""
    return [
        Contrast(
            name=f"{name} against one adapter as large",
            arm=name,
            reference=f"1 x rank {rank}",
            decides=name == label(DECIDES),
        )
        for name, (_, rank) in mixtures(scale).items()
    ]


QUESTION = Question(
    name="granularity",
    question="Is it experts: does an adapter that is cut into experts with a router answer better than a whole one?",
    design="MoLoRA with experts times rank 32, from 2 of rank 16 to 32 of rank 1, soft routing, and SMoRA, each "
    "against one adapter in the same layer with as many trainable parameters, routers included. All else equal, paired "
    "by seed.",
    yes=f"{DECIDES} experts are better than one adapter as large",
    no=f"{DECIDES} experts are worse than one adapter as large or equivalent to it within the margin",
    undecided="anything else",
    arms=arms,
    contrasts=contrasts,
)
app = asking.app(QUESTION)
