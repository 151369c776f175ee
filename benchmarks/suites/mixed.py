"""Nineteen tasks of three kinds at once: the regime in which handing out experts should matter most."""

from benchmarks.suites import Suite
from benchmarks.suites.commonsense import COMMONSENSE
from benchmarks.suites.knowledge import KNOWLEDGE
from benchmarks.suites.nlu import NLU

MIXED = Suite(
    name="mixed",
    summary="commonsense, nlu and knowledge together",
    tasks=(*COMMONSENSE.tasks, *NLU.tasks, *KNOWLEDGE.tasks),
    headline={**COMMONSENSE.headline, **NLU.headline, **KNOWLEDGE.headline},
)
