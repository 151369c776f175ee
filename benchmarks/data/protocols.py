"""What a protocol of evaluation asks of the harness, so that no code asks for a protocol by name.

A protocol of lm-eval's scores (loglik, generative, lm-eval) differs from another in its tasks alone, which
`Suite.protocols` and benchmarks/data/tasks.py find. One without scores passes random tokens through the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.data import synthetic, training
from benchmarks.data.examples import Example
from results import RunSpec
from results.spec import COST, SERVING

Data = Callable[[RunSpec, Any, dict[str, Any]], tuple[dict[str, Any], dict[str, list[Example]]]]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Where the documents of a job come from, and whether it has scores."""

    scored: bool  # by lm-eval; else evaluation is a forward pass, and the record has no score
    data: Data  # (spec, tokenizer, description to fill) -> (lm-eval's tasks, training examples of each task)
    source: str | None = None  # the only source there is; None: as asked
    facts: Callable[[Any], Mapping[str, Any]] = lambda config: {}  # of the model's configuration, for the record
    keeps_base: bool = False  # whether the model as it was, without an adapter, is asked for in evaluation
    report: str | None = None  # command of `python -m reports` that draws its records, where they have no scores

    @property
    def endless(self) -> bool:
        """Whether there are as many documents as are asked for, so that a number of them must be."""
        return self.source is not None


SCORED = Protocol(scored=True, data=training.training_data)
_UNSCORED: dict[str, Any] = dict(
    scored=False,
    source=synthetic.SOURCE,
    facts=lambda config: {"shape": synthetic.shape(config)},
)
PROTOCOLS = {
    COST: Protocol(data=synthetic.data, report="cost", **_UNSCORED),
    SERVING: Protocol(data=synthetic.briefly, report="serving", keeps_base=True, **_UNSCORED),
}


def protocol(name: str) -> Protocol:
    """Return the protocol of that name, as in `RunSpec.protocol`."""
    return PROTOCOLS.get(name, SCORED)
