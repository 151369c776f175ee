"""Is it the score? Importances spent as experts and as ranks, among random allocations: `study allocation`."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.jobs import asking
from benchmarks.plan.questions import Arm, Question, Scale
from results.studies.study import Contrast

SCORES = ("sensitivity", "fim", "gora", "influence", "eva", "alpha", "diversity", "mola-inverted-triangle")
SPENDERS = ("experts", "ranks")


def scores(scale: Scale) -> Sequence[str]:
    """At size tiny two importances show that it works."""
    return SCORES[:2] if scale.size.name == "tiny" else SCORES


def arms(scale: Scale) -> Sequence[Arm]:
    """Every importance and none in both currencies; random allocations, at one training seed."""
    matched = {} if scale.size.name == "tiny" else {"match": "params"}  # one expert of tiny is more than 2%
    made = [
        Arm(label=f"{spender}, {name}", request={"methods": f"{spender}:importance={name}", **matched})
        for spender in SPENDERS
        for name in (*scores(scale), "uniform")
    ]
    return made + [
        Arm(label=label, request={"methods": f"{spender}:order=shuffled:allocation_seed={i}", **matched}, seeds=1)
        for spender in SPENDERS
        for i, label in enumerate(draws(spender, scale))
    ]


def draws(spender: str, scale: Scale) -> list[str]:
    """Labels of the random allocations, which have the numbers that sensitivity gives."""
    return [f"{spender}, random {i}" for i in range(scale.size.draws)]


def contrasts(scale: Scale) -> Sequence[Contrast]:
    """Sensitivity among the random allocations decides; every other importance, and uniform, stand beside."""
    made = []
    for spender in SPENDERS:
        for name in scores(scale):
            arm, own = f"{spender}, {name}", name == "sensitivity"
            made += [
                Contrast(name=f"{arm}: among random ones", kind="rank", arm=arm, among=tuple(draws(spender, scale)),
                         yes=("better",), no=("worse",), decides=own),
                Contrast(name=f"{arm}: against uniform", arm=arm, reference=f"{spender}, uniform", decides=False),
            ]  # fmt: skip
    return made


QUESTION = Question(
    name="allocation",
    question="Is it the score: is capacity placed by sensitivity worth more than the same numbers placed at random?",
    design="Importances spent as experts (one layer, one router) and as LoRA ranks at equal trainable parameters, and "
    "random allocations of sensitivity's own numbers at one training seed, so that the luck of the placing is told "
    "from that of training. The rank of an importance among them is a one-sided test; uniform is beside.",
    yes="as experts and as ranks, sensitivity is among the best of the random allocations, p < 0.05; with fewer than "
    "20 of them no rank is that sure",
    no="in both currencies, at least half of the random allocations are as good",
    undecided="anything else",
    arms=arms,
    contrasts=contrasts,
)
app = asking.app(QUESTION)
