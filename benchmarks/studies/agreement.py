"""Does a score that places the same again also train better? Importances that read samples: `study agreement`."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.jobs import asking
from benchmarks.plan.questions import Arm, Question, Scale
from results.studies.study import Contrast

OWN = "sensitivity"
SCORES = (OWN, "fim", "gora", "influence", "eva", "diversity")  # those that hang on the calibration samples


def arms(scale: Scale) -> Sequence[Arm]:
    """Every importance that reads samples, spent as as many experts; and none. Another seed draws other samples."""
    matched = {} if scale.size.name == "tiny" else {"match": "params"}  # one expert of tiny is more than 2%
    return [
        Arm(label=name, request={"methods": f"experts:importance={name}", **matched}) for name in (*SCORES, "uniform")
    ]


def contrasts(scale: Scale) -> Sequence[Contrast]:
    """Let the rank correlation over the importances decide; what each of them brings stands beside."""
    deciding = Contrast(
        name="scores that agree more train better", kind="agreement", arm=OWN, among=SCORES, no=("worse",)
    )
    beside = [
        Contrast(name=f"{name}: against uniform", arm=name, reference="uniform", decides=False) for name in SCORES
    ]
    return [deciding, *beside]


QUESTION = Question(
    name="agreement",
    question="Does an importance whose allocations agree more from one draw of samples to another train better?",
    design="Six importances that read calibration samples (sensitivity, fim, gora, influence, eva, diversity), spent "
    "as experts at equal trainable parameters; every seed draws its own samples and documents. Agreement of an "
    "importance: mean rank correlation over blocks of its allocations at two seeds. Over the six, agreement is "
    "rank-correlated with the measure after training; p is exact, over all orders. `study stability --methods all` "
    "measures agreement alone, on more draws.",
    yes="the rank correlation is above 0, p < 0.05",
    no="the rank correlation is 0 or below",
    undecided="anything else, as a single seed, with which nothing agrees or disagrees",
    arms=arms,
    contrasts=contrasts,
)
app = asking.app(QUESTION)
