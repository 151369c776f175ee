"""Does placing matter where capacity is scarce? Short: a quarter of an expert a block, one, four; `--long`: a curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.jobs import asking
from benchmarks.plan.questions import Arm, Question, Scale
from results.studies.study import Contrast

MEANS = (0.25, 1.0, 4.0)  # experts a block, the scarcest first
ALLOCATIONS = (0, 1)  # random ones
RANK = 8
LONG_MEANS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
LONG_ALLOCATIONS = (0, 1, 2, 3, 4)
LONG_RANKS = (1, 8)  # of an expert
VOTES = 8  # experts that a block can have where eight tasks vote


def means(scale: Scale) -> Sequence[float]:
    """At size tiny the two ends show that it works."""
    return (MEANS[0], MEANS[-1]) if scale.size.name == "tiny" else MEANS


def experts(scale: Scale, mean: float) -> int:
    """Experts over all blocks."""
    return max(round(mean * scale.blocks), 1)


def arms(scale: Scale) -> Sequence[Arm]:
    """LoRA-SMoE, random and reversed allocations, and ranks, at each mean."""
    made = []
    for mean in means(scale):
        total = experts(scale, mean)
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


def long_points(scale: Scale) -> list[tuple[int, float]]:
    """(rank of an expert, mean experts a block) of every point; at size tiny the two ends of each rank."""
    chosen = (LONG_MEANS[0], LONG_MEANS[-1]) if scale.size.name == "tiny" else LONG_MEANS
    return [(r, mean) for r in LONG_RANKS for mean in chosen]


def random_ones(scale: Scale) -> list[str]:
    """Names of the random allocations."""
    return [f"random {i}" for i in (LONG_ALLOCATIONS[:2] if scale.size.name == "tiny" else LONG_ALLOCATIONS)]


def at(name: str, r: int, mean: float) -> str:
    """Label an arm of the long form."""
    return f"{name} at {mean:g}, rank {r}"


def long_arms(scale: Scale) -> Sequence[Arm]:
    """At every point LoRA-SMoE, the same number everywhere, random and reversed allocations, and ranks.

    Below one expert a block `uniform` gives one to blocks that are drawn. Alpha is the same at both ranks, so that a
    step moves the output as far.
    """
    made = []
    for r, mean in long_points(scale):
        total = experts(scale, mean)
        own = f"total_experts={total}:r={r}"
        methods = {
            "lora-smoe": f"lora-smoe:{own}",
            "uniform": f"experts:importance=uniform:order=shuffled:allocation_seed=0:{own}",
            **{n: f"random-experts:{own}:allocation_seed={n.split()[1]}" for n in random_ones(scale)},
            "reversed": f"inverse-experts:{own}",
            "ranks": f"sensitive-ranks:total_ranks={r * total}:min_rank=0:max_rank={r * VOTES}"
            f":r={max(round(r * mean), 1)}:scale=equal",
        }
        made += [Arm(label=at(name, r, mean), request={"methods": text}) for name, text in methods.items()]
    return made


def long_contrasts(scale: Scale) -> Sequence[Contrast]:
    """Let the scarcest mean decide, at both ranks, against the mean of the random allocations."""
    made = []
    for r, mean in long_points(scale):
        arm, where = at("lora-smoe", r, mean), f"{mean:g} experts a block, rank {r}"
        randoms = tuple(at(name, r, mean) for name in random_ones(scale))
        made.append(
            Contrast(name=f"{where}: against the mean of random ones", kind="mean", arm=arm, among=randoms,
                     decides=mean == LONG_MEANS[0])
        )  # fmt: skip
        made += [
            Contrast(name=f"{where}: against {other}", arm=arm, reference=at(other, r, mean), decides=False)
            for other in ("uniform", "reversed", "ranks")
        ]
    return made


def long_curves(scale: Scale) -> Mapping[str, Mapping[str, Sequence[str]]]:
    """Return a panel for each rank, and a curve over the means for each contestant."""
    names = ("lora-smoe", "uniform", *random_ones(scale), "reversed", "ranks")
    points = long_points(scale)
    return {f"rank {r}": {name: [at(name, r, mean) for rank, mean in points if rank == r] for name in names}
            for r in LONG_RANKS}  # fmt: skip


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
LONG = Question(
    name="scarcity-long",
    question="From where on does placing experts by sensitivity matter, as capacity becomes scarce?",
    design="LoRA-SMoE against five random allocations of the same numbers, the same number everywhere (below one a "
    "block, in blocks that are drawn), the reversed ranking and the same score spent as ranks, at means of 0.125, "
    "0.25, 0.5, 1, 2 and 4 experts a block, each of rank 1 and of rank 8, drawn over trainable parameters. The "
    "premise must show where capacity is scarcest, or nowhere: the lowest mean decides.",
    yes="at the lowest mean, at both ranks, LoRA-SMoE is better than the mean of the random allocations",
    no="at the lowest mean, at both ranks, it is worse than that mean or equivalent to it within the margin",
    undecided="anything else",
    arms=long_arms,
    contrasts=long_contrasts,
    curves=long_curves,
)
app = asking.app(QUESTION, longer=LONG)
