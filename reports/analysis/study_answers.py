"""A study's contrasts judged on its records: yes, no or undecided, by what was written down before anything ran.

Differences carry the crossed statistics of reports/analysis/crossed.py and the four verdicts with their declared
margins; p-values are Holm-adjusted over the differences of the study. A rank among random allocations is a one-sided
permutation test at one training seed: p = (1 + those at least as good) / (1 + all). An agreement is a rank correlation
over arms, with the share of all orders that give as large a one. The study's answer is yes or no where all contrasts
that decide it say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from reports.analysis import crossed, stats
from reports.analysis.crossed import Estimate
from reports.analysis.measures import MEASURES, Measure, values
from reports.analysis.stability import rank_correlation
from reports.analysis.verdicts import BETTER, UNDECIDED, WORSE, margins, verdict
from results.adapters import joined
from results.names import pick
from results.record import Record
from results.store import Store
from results.studies.study import FILE, STUDIES, Contrast, Study

YES, NO = "yes", "no"


@dataclass(frozen=True)
class Answer:
    """One contrast, answered."""

    contrast: Contrast
    answer: str  # yes, no, undecided
    word: str  # the verdict on the arm
    value: float | None  # arm minus what it is compared with, in the measure's own unit; None: nothing to compare
    interval: tuple[float, float] | None  # 95%; of a rank, to the best and to the worst of the others
    p: float | None
    seeds: int
    note: str  # what is missing, or how sure the word is


@dataclass(frozen=True)
class Answered:
    """A study with its answers."""

    study: Study
    measure: Measure
    answers: tuple[Answer, ...]
    records: int  # finished jobs
    jobs: int
    arms: Mapping[str, Sequence[Record]]  # finished ones by label

    @property
    def answer(self) -> str:
        """The study's own answer, from the contrasts that decide it."""
        said = {a.answer for a in self.answers if a.contrast.decides}
        return said.pop() if len(said) == 1 else UNDECIDED

    @property
    def agreements(self) -> list[Answer]:
        """Those of the answers that are about agreement."""
        return [a for a in self.answers if a.contrast.kind == "agreement"]

    @property
    def sentence(self) -> str:
        """The answer in words."""
        deciding = [a for a in self.answers if a.contrast.decides]
        parts = "; ".join(f"{a.contrast.name}: {a.word}" + (f" ({a.note})" if a.note else "") for a in deciding)
        missing = "" if self.records == self.jobs else f" {self.jobs - self.records} of {self.jobs} jobs are missing."
        return f"{self.answer.capitalize()}. {self.measure.label}: {parts}.{missing}"


def answered(study: Study, records: Mapping[str, Record]) -> Answered:
    """Judge every contrast. records: by key, finished or not. Raises ValueError for an unknown measure."""
    measure = pick("measure", study.measure, {m.name: m for m in MEASURES})
    arms = arms_of(study, records)
    own = {"rank": _rank, "agreement": _agreement}  # kinds with a test of their own
    estimates = {c.name: _estimate(c, arms, measure) for c in study.contrasts if c.kind not in own}
    adjusted = stats.holm({name: e.p if e is not None else None for name, (e, _, _) in estimates.items()})
    answers = []
    for contrast in study.contrasts:
        if contrast.kind in own:
            answers.append(own[contrast.kind](contrast, arms, measure))
            continue
        estimate, seeds, note = estimates[contrast.name]
        word = verdict(estimate, margins().get(measure.name), measure.higher, adjusted[contrast.name])
        value, interval = (None, None) if estimate is None else (estimate.value, estimate.interval())
        answers.append(
            Answer(contrast, meaning(contrast, word), word, value, interval, adjusted[contrast.name], seeds, note)
        )
    keys = {key for of_arm in study.arms.values() for key in of_arm}
    done = sum(key in records and records[key].status == "done" for key in keys)
    return Answered(study, measure, tuple(answers), done, len(keys), arms)


def meaning(contrast: Contrast, word: str) -> str:
    """Return what a verdict on the arm says to the contrast."""
    return YES if word in contrast.yes else NO if word in contrast.no else UNDECIDED


def _estimate(
    contrast: Contrast, arms: Mapping[str, Sequence[Record]], measure: Measure
) -> tuple[Estimate | None, int, str]:
    """Return the estimate of the arm's difference, the seeds, and what there is to say of it."""
    own = {r.spec.seed: r for r in arms[contrast.arm]}
    if contrast.kind == "variant":
        changed = {s: (r.variants or {}).get(contrast.variant) for s, r in own.items()}
        others = [{s: replace(own[s], scores=scores) for s, scores in changed.items() if scores is not None}]
    else:
        labels = contrast.among if contrast.kind == "mean" else (contrast.reference,)
        others = [{r.spec.seed: r for r in arms[label]} for label in labels]
    seeds = sorted(set(own).intersection(*others))
    if not seeds:
        return None, 0, "no records to compare"
    tasks = contrast.tasks or own[seeds[0]].spec.trained_tasks
    rows = [[of[s] for s in seeds] for of in (*others, own)]
    _require_same_documents(rows, tasks, contrast)
    arrays = values(rows, tasks, measure)
    if arrays is None:
        return None, len(seeds), f"no {measure.label.lower()} on record"
    paired = crossed.against([np.stack([a[:-1].mean(axis=0), a[-1]]) for a in arrays], 0)[1]
    if paired.method is None:
        return paired.models, len(seeds), "one seed: these models only"
    return paired.method, len(seeds), ""


def _rank(contrast: Contrast, arms: Mapping[str, Sequence[Record]], measure: Measure) -> Answer:
    """Place the arm among the others at the first seed that all have."""
    by_seed = [{r.spec.seed: r for r in arms[label]} for label in (contrast.arm, *contrast.among)]
    finished = [of for of in by_seed[1:] if of]
    seeds = set(by_seed[0]).intersection(*finished) if finished else set()
    if not seeds:
        return Answer(contrast, UNDECIDED, UNDECIDED, None, None, None, 0, "no records to compare")
    records = [[of[min(seeds)]] for of in (by_seed[0], *finished)]
    tasks = contrast.tasks or records[0][0].spec.trained_tasks
    _require_same_documents(records, tasks, contrast)
    arrays = values(records, tasks, measure)
    if arrays is None:
        note = f"no {measure.label.lower()} on record"
        return Answer(contrast, UNDECIDED, UNDECIDED, None, None, None, 1, note)
    own, *others = np.mean([a.mean(axis=(1, 2)) for a in arrays], axis=0)
    as_good = sum(other >= own if measure.higher else other <= own for other in others)
    p = (1 + as_good) / (1 + len(others))
    word = BETTER if p < stats.ALPHA else WORSE if 2 * as_good >= len(others) else UNDECIDED
    apart = [float(own - other) for other in others]
    note = f"{as_good} of {len(others)} at least as good, one training seed"
    interval = (min(apart), max(apart))
    return Answer(contrast, meaning(contrast, word), word, float(np.mean(apart)), interval, p, 1, note)


def _agreement(contrast: Contrast, arms: Mapping[str, Sequence[Record]], measure: Measure) -> Answer:
    """Correlate how far allocations of an arm agree from seed to seed with how well the arm answers."""
    points = agreement_points(contrast, arms, measure)
    if len(points) < 3:
        note = f"{len(points)} of {len(contrast.among)} importances have two seeds and agree or disagree"
        return Answer(contrast, UNDECIDED, UNDECIDED, None, None, None, 0, note)
    agree, value = (rankdata([point[i] for point in points.values()]) for i in (0, 1))
    value = value if measure.higher else -value
    if np.ptp(agree) == 0 or np.ptp(value) == 0:
        return Answer(contrast, UNDECIDED, UNDECIDED, None, None, None, 0, "all importances are alike")
    orders = value[np.array(list(permutations(range(len(points)))))]  # (orders, importances)
    a, v = agree - agree.mean(), orders - value.mean()
    all_rhos = v @ a / np.sqrt((a**2).sum() * (v[0] ** 2).sum())
    rho, p = float(all_rhos[0]), float(np.mean(all_rhos >= all_rhos[0] - 1e-9))  # the first order is their own
    word = BETTER if rho > 0 and p < stats.ALPHA else WORSE if rho <= 0 else UNDECIDED
    by_label = ", ".join(f"{label} {of:.2f}" for label, (of, _) in sorted(points.items(), key=lambda x: -x[1][0]))
    note = f"rank correlation {rho:z.2f} over {len(points)}; agreement: {by_label}"
    seeds = min(len({r.spec.seed for r in arms[label]}) for label in points)
    return Answer(contrast, meaning(contrast, word), word, None, None, p, seeds, note)


def agreement_points(
    contrast: Contrast, arms: Mapping[str, Sequence[Record]], measure: Measure
) -> dict[str, tuple[float, float]]:
    """Return {label: (mean rank correlation of allocations at two seeds, mean of the measure)} of the `among` arms.

    Over the seeds that all arms with two or more have; an arm whose allocation is the same in every block is left out.
    """
    by_label = {label: {r.spec.seed: r for r in arms[label]} for label in contrast.among}
    by_label = {label: by_seed for label, by_seed in by_label.items() if len(by_seed) > 1}
    seeds = sorted(set.intersection(*map(set, by_label.values()))) if by_label else []
    if len(seeds) < 2:
        return {}
    rows = [[by_seed[s] for s in seeds] for by_seed in by_label.values()]
    tasks = contrast.tasks or rows[0][0].spec.trained_tasks
    _require_same_documents(rows, tasks, contrast)
    arrays = values(rows, tasks, measure)
    if arrays is None:
        return {}
    means = np.mean([a.mean(axis=(1, 2)) for a in arrays], axis=0)
    points = {}
    for label, row, mean in zip(by_label, rows, means, strict=True):
        units = [(r.facts or {}).get("experts") or (r.facts or {}).get("ranks") for r in row]
        rhos = [rank_correlation(a, b) for a, b in combinations(units, 2) if a and b]
        if rhos and np.isfinite(rhos).all():
            points[label] = float(np.mean(rhos)), float(mean)
    return points


def arms_of(study: Study, records: Mapping[str, Record]) -> dict[str, list[Record]]:
    """Return the finished records of every arm, those of an adapter for each task joined."""
    return {
        label: [r for r in joined(records[k] for k in keys if k in records) if r.status == "done"]
        for label, keys in study.arms.items()
    }


def _require_same_documents(rows: Sequence[Sequence[Record]], tasks: Sequence[str], contrast: Contrast) -> None:
    """Raise ValueError where two rows did not answer the same documents: they cannot be paired."""
    for task in tasks:
        seen = {(r.scores or {})[task].documents for row in rows for r in row if task in (r.scores or {})}
        lacking = any(task not in (r.scores or {}) for row in rows for r in row)
        if len(seen) != 1 or lacking:
            raise ValueError(f"contrast {contrast.name!r}: its records did not answer the same documents of {task}")


def load_answers(folder: Path = STUDIES) -> dict[str, Answered]:
    """Answer every study that lies in a folder of this one, by its name; of several sizes the last by name."""
    return {a.study.name: a for place in sorted(folder.glob(f"*/{FILE}")) for a in [load_answer(place.parent)]}


def load_answer(folder: Path) -> Answered:
    """Answer the study of a folder. Raises ValueError naming what is wrong."""
    study = Study.load(folder)
    return answered(study, {record.key: record for record in Store(folder).all()})
