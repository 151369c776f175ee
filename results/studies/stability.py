"""Allocations of one allocator from several draws and numbers of samples: whether it finds the same blocks again.

One JSON file an allocator, rewritten after every allocation, so that an interrupted measurement goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from results.files import write_whole
from results.spec import RecordError
from results.store import RECORDS

# What is asked, and what would answer it, declared before anything is measured; reports/analysis/stability.py answers.
QUESTION = "Does another draw of the calibration samples give the same allocation?"
DESIGN = (
    "Every allocator allocates from several draws of the documents at several sizes, a smaller probe the beginning of "
    "a larger one; nothing is trained. Agreement: mean rank correlation over blocks of every two draws' allocations, "
    "at the largest size that has two."
)
SAME, OTHER = 0.8, 0.5
YES = f"the agreement is {SAME:g} or more"
NO = f"the agreement is below {OTHER:g}"
UNDECIDED = "anything between, or allocations that are the same in every block, which cannot agree"
STABILITY = RECORDS.parent / "stability"  # committed
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Stability:
    """What was asked, and the experts of every block for each (seed, samples a task) that was measured."""

    suite: str
    source: str
    model: str
    dtype: str
    method: str
    hyperparameters: Mapping[str, Any]
    max_length: int
    allocations: dict[tuple[int, int], dict[str, int]] = field(default_factory=dict)  # (seed, samples) -> experts
    seconds: dict[tuple[int, int], float] = field(default_factory=dict)  # wall-clock of each
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def asked(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if k not in ("allocations", "seconds", "environment")}

    @property
    def name(self) -> str:
        """`suite--model--method--<8 hex of a hash over all that was asked>`; a valid file name."""
        digest = hashlib.sha256(json.dumps(self.asked, sort_keys=True).encode()).hexdigest()[:8]
        model = "".join(c if c.isalnum() or c in "._-" else "-" for c in self.model.rstrip("/").split("/")[-1])
        return f"{self.suite}--{model}--{self.method}--{digest}"

    def save(self, folder: Path) -> Path:
        """Write the whole file or leave the old one. Raises OSError."""
        body: dict[str, Any] = {"schema": SCHEMA, **self.asked, "environment": self.environment}
        body["allocations"] = [
            {"seed": seed, "samples": samples, "seconds": self.seconds[seed, samples], "experts": experts}
            for (seed, samples), experts in sorted(self.allocations.items())
        ]
        path = folder / f"{self.name}.json"
        lines = ",\n".join(f" {json.dumps(k)}: {_lines(v)}" for k, v in body.items())
        write_whole(path, f"{{\n{lines}\n}}\n")
        return path

    @classmethod
    def load(cls, path: Path) -> Stability:
        """Read a file that `save` wrote. Raises RecordError naming the file and what is wrong."""
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            if body.pop("schema") != SCHEMA:
                raise RecordError("its schema is not known")
            by_draw = {(a["seed"], a["samples"]): a for a in body.pop("allocations")}
            return cls(
                **body,
                allocations={key: a["experts"] for key, a in by_draw.items()},
                seconds={key: a["seconds"] for key, a in by_draw.items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecordError(f"{path.name} is no stability measurement: {error}") from error


def _lines(value: Any) -> str:
    """Return JSON with a line for each entry of a list, so that a diff can be read."""
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"  {json.dumps(entry)}" for entry in value) + "\n ]"
    return json.dumps(value)
