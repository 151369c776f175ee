"""Log-likelihoods of choices by shared prefixes against lm-eval's own wrapper: time and peak memory, in both dtypes."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.speed.memory import measured
from benchmarks.speed.ratios import Ratio, SideBySide, Subject, Target, ratio
from benchmarks.speed.setting import SCORERS, Setting, answer
from results.spec import LM_EVAL, SHARED_PREFIX

TIME = {
    dtype: Target(name=f"evaluation, {dtype}: time of lm-eval / shared prefixes", bound=bound, at_most=False)
    for dtype, bound in (("bfloat16", 2.5), ("float32", 1.6))
}
MEMORY = {
    dtype: Target(name=f"evaluation, {dtype}: peak memory of shared prefixes / lm-eval", bound=0.4) for dtype in TIME
}


def targets(device: str) -> list[Target]:
    """Return the ratios measured on `device`, with their bounds."""
    return [target for dtype in TIME for target in (TIME[dtype], MEMORY[dtype])]


def prepare(setting: Setting) -> Subject:
    """All four in one process for time; a process each for memory."""
    requests = setting.requests
    settings = {dtype: replace(setting, dtype=dtype) for dtype in TIME}
    models = {dtype: one.load() for dtype, one in settings.items()}
    contest = SideBySide(
        {
            f"{scorer} {dtype}": lambda scorer=scorer, dtype=dtype: answer(  # type: ignore[misc]
                settings[dtype], models[dtype], requests, scorer
            )
            for dtype in TIME
            for scorer in SCORERS
        },
        setting.device,
    )

    def rows() -> list[Ratio]:
        ratios = []
        for dtype, one in settings.items():
            ours, theirs = (f"{scorer} {dtype}" for scorer in (SHARED_PREFIX, LM_EVAL))
            seconds = f"{contest.median(theirs):.2f} / {contest.median(ours):.2f} s for {len(requests)} requests"
            ratios.append(ratio(TIME[dtype], contest.over(theirs, ours), seconds))
            peaks = {s: peak / 1e6 for s, (peak, _) in measured(one, {"requests": requests}, SCORERS).items()}
            detail = f"{peaks[SHARED_PREFIX]:.0f} / {peaks[LM_EVAL]:.0f} MB, the model included"
            ratios.append(ratio(MEMORY[dtype], [peaks[SHARED_PREFIX] / peaks[LM_EVAL]], detail))
        return ratios

    return Subject(contest, setting.rounds(3), rows)
