"""Is there anything in routing? Learned routers against none, random ones, and an oracle: `study routing`."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.jobs import asking
from benchmarks.plan.questions import Arm, Question, Scale
from results.studies.study import Contrast

MIXTURES = ("molora", "lora-smoe")


def arms(scale: Scale) -> Sequence[Arm]:
    """Each mixture with a learned, no, and a random router; the oracle; LoRA of all ranks at both scales."""
    probed = {"probe_router": True}
    made = [Arm(label=name, request={"methods": name, **probed}) for name in MIXTURES]
    made += [Arm(label=f"{n}, {r}", request={"methods": f"{n}:router={r}"}) for n in MIXTURES for r in CONTROLS]
    tasks = len(scale.tasks)
    wide = f"molora:num_experts={tasks}"
    made += [
        Arm(label="molora, an expert a task", request={"methods": wide, **probed}),
        Arm(label="molora, told the task", request={"methods": f"{wide}:router=task"}),
        Arm(label="lora at s/E", request={"methods": "lora:r=32:alpha=64"}),
    ]
    if scale.size.name != "tiny":
        made += [
            Arm(label="lora at s", request={"methods": "lora:r=32:alpha=256"}),
            *(Arm(label=f"molora, top-{k}", request={"methods": f"molora:top_k={k}"}) for k in (1, 2)),
            *(Arm(label=f"molora, {r}", request={"methods": f"molora:router={r}"}) for r in OTHERS),
        ]
    return made


CONTROLS = ("uniform", "frozen")
OTHERS = ("threshold", "sparsegen", "sigmoid", "top-p")  # learned, of the literature


def contrasts(scale: Scale) -> Sequence[Contrast]:
    """Learned against none and shuffled decides; the rest is beside."""
    made = []
    for name in MIXTURES:
        made += [
            Contrast(name=f"{name}: learned against none", arm=name, reference=f"{name}, uniform"),
            Contrast(name=f"{name}: against its own, shuffled", kind="variant", arm=name, variant="shuffled"),
            Contrast(name=f"{name}: against its own, made uniform", kind="variant", arm=name, variant="uniform",
                     decides=False),
            Contrast(name=f"{name}: learned against random", arm=name, reference=f"{name}, frozen", decides=False),
        ]  # fmt: skip
    beside = [
        ("oracle: told the task", "molora, told the task", "molora, an expert a task"),
        ("mixture without a router against LoRA", "molora, uniform", "lora at s/E"),
    ]
    if scale.size.name != "tiny":
        beside += [("LoRA at s against s/E", "lora at s", "lora at s/E")]
        beside += [(f"top-{k} against soft", f"molora, top-{k}", "molora") for k in (1, 2)]
        beside += [(f"{r} against soft", f"molora, {r}", "molora") for r in OTHERS]
    return [*made, *(Contrast(name=n, arm=a, reference=r, decides=False) for n, a, r in beside)]


QUESTION = Question(
    name="routing",
    question="Is there anything in routing: does a mixture answer better because a trained router tells tokens apart?",
    design="MoLoRA and LoRA-SMoE with a learned router, none (every expert 1/E) and a random one that stays as it is; "
    "the learned one also evaluated with gates shuffled over tokens and made uniform; an oracle that is told the task; "
    "LoRA of all ranks at the scale of one expert and of the mean of them; other routers of the "
    "literature beside. All else equal, paired by seed.",
    yes="for both mixtures, the learned router is better than none, and better than itself shuffled",
    no="for both mixtures, it is worse than none or equivalent within the margin, and so it is to itself shuffled",
    undecided="anything else, the two mixtures disagreeing among it",
    arms=arms,
    contrasts=contrasts,
)
app = asking.app(QUESTION)
