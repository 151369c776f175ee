"""A study as it was asked: question, design, and what counts as yes, no and undecided, written before anything runs.

One file, `study.json`, beside the records of its jobs; the reports read both and answer. `benchmarks/studies/` asks.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from results.files import write_whole
from results.spec import STRICT, Items, RecordError, validated
from results.store import RECORDS

STUDIES = RECORDS.parent / "studies"  # committed, a folder each
FILE = "study.json"
Word = Literal["better", "worse", "equivalent"]  # verdicts of reports/analysis/verdicts.py that decide something


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Contrast:
    """One question of a study, answered by records: yes, no or undecided.

    difference   the arm's records against the reference's, on the tasks both have, over documents and seeds
    variant      the arm's records against their own evaluation under `variant` ("shuffled", "uniform")
    rank         the arm's record at one seed among the `among` arms: p = (1 + those at least as good) / (1 + all)
    mean         the arm's records against the mean of the `among` arms at the same seed, over documents and seeds
    agreement    whether those of the `among` arms whose allocations agree more from seed to seed answer better
    """

    name: str
    kind: Literal["difference", "variant", "rank", "mean", "agreement"] = "difference"
    arm: str  # label; of an agreement, one of `among`, whose tasks are compared
    reference: str = ""  # label, of a difference
    variant: str = ""
    among: Items[str] = ()  # labels, of a rank, a mean and an agreement
    tasks: Items[str] | None = None  # that are compared; None: all that the arm was trained on
    # Verdicts on the arm that mean yes and no. Of a rank better is p < 0.05, worse that half of the others are at least
    # as good; of an agreement better is a positive rank correlation with p < 0.05, worse one that is not above 0.
    yes: Items[Word] = ("better",)
    no: Items[Word] = ("worse", "equivalent")
    decides: bool = True  # whether the study's answer rests on it, or it is shown beside

    def __post_init__(self) -> None:
        needed = {"difference": self.reference, "variant": self.variant}.get(self.kind, self.among)
        if not needed:
            raise ValueError(f"contrast {self.name!r} of kind {self.kind} says not with what it compares")
        if set(self.yes) & set(self.no):
            raise ValueError(f"contrast {self.name!r}: a verdict cannot mean both yes and no")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Study:
    """What is asked, and the jobs that will answer: `arms` maps each label to the keys of its records."""

    name: str
    size: str
    question: str
    design: str
    yes: str  # what would count as yes, no and undecided, in words
    no: str
    undecided: str
    measure: str  # declared beforehand, of reports/analysis/measures.py
    arms: Mapping[str, Items[str]]
    contrasts: Annotated[Items[Contrast], Field(min_length=1)]
    curves: Mapping[str, Mapping[str, Items[str]]] = field(default_factory=dict)  # panel -> curve -> labels of arms

    def __post_init__(self) -> None:
        drawn = [label for panel in self.curves.values() for curve in panel.values() for label in curve]
        if unnamed := [label for label in drawn if label not in self.arms]:
            raise ValueError(f"a curve goes through {unnamed[0]!r}, which is no arm; arms: {', '.join(self.arms)}")
        for contrast in self.contrasts:
            for label in (contrast.arm, contrast.reference, *contrast.among):
                if label and label not in self.arms:
                    raise ValueError(f"contrast {contrast.name!r}: no arm {label!r}; arms: {', '.join(self.arms)}")
        if not any(contrast.decides for contrast in self.contrasts):
            raise ValueError(f"study {self.name}: no contrast decides it")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        body: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return body

    def save(self, folder: Path) -> Path:
        """Write the whole file or leave the old one. Raises OSError."""
        path = folder / FILE
        write_whole(path, json.dumps(self.to_json(), indent=1) + "\n")
        return path

    @classmethod
    def load(cls, folder: Path) -> Study:
        """Read what `save` wrote. Raises RecordError naming the file and what is wrong."""
        path = folder / FILE
        try:
            return validated(cls, json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise RecordError(f"{path}: no study: {error}") from error
