"""How much data the comparison on a card can have, from what one job of it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from results import Record
from results.record import PHASES

SAFETY = 0.8  # share of the time that is planned with: AdaLoRA's steps take up to three times those of LoRA
GAIN = 4.0  # jobs at once do so many times the work of one on a device, reckoned; outside it as many as there are
BETWEEN = 10.0  # seconds between the start of a run and its first job


@dataclass(frozen=True)
class Size:
    """Training documents in all and evaluated ones a task; None: all there are."""

    documents: int | None
    limit: int | None

    def options(self, rehearse: bool) -> list[str]:
        """Return them as options of benchmarks.run; a rehearsal has the fewest."""
        if rehearse:
            return ["--train-documents", "32", "--limit", "1"]
        if self.documents is None:
            return ["--profile", "full"]
        return ["--train-documents", str(self.documents), "--limit", str(self.limit)]


EVERY = (21136, 13219)  # documents that --profile full trains on and evaluates
SIZES = (Size(320, 32), Size(1000, 100), Size(2000, 400), Size(4000, 400), Size(8000, 400), Size(None, None))
FIRST = SIZES[0]  # of the one job by which the others are sized


def fitting(records: Sequence[Record], seconds: float, jobs: int, together: int = 1) -> Size:
    """Return the largest size at which so many jobs, `together` at once, should end within a share `SAFETY` of seconds.

    The smallest where no job tells, or none fits: whatever of it ends is something.
    """
    told = [r for r in records if r.status == "done" and r.losses]
    if not told:
        return SIZES[0]
    fixed, a_document, an_answer = _seconds(told[0])

    def expected(size: Size) -> float:
        trained = size.documents or EVERY[0]
        answered = len(told[0].spec.tasks) * size.limit if size.limit else EVERY[1]
        on_device = (trained * a_document + answered * an_answer) / min(GAIN, together)
        return BETWEEN + jobs * (fixed / together + on_device)

    return max((s for s in SIZES if expected(s) <= SAFETY * seconds), key=expected, default=SIZES[0])


def _seconds(record: Record) -> tuple[float, float, float]:
    """Seconds of a job that do not grow with its documents, of one in training, and of one in evaluation."""
    phases = {name: cost.wall_seconds for name, cost in record.costs.items()}
    trained = sum(of["train_documents"] for of in record.data.values())
    answered = sum(of["evaluation_documents"] for of in record.data.values())
    fixed = sum(seconds for name, seconds in phases.items() if name not in PHASES[2:])
    return fixed, phases["train"] / max(trained, 1), phases["evaluate"] / max(answered, 1)
