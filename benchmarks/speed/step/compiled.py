"""Training through torch.compile beside training without, and what compiling itself takes of a default run."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from accelerate.utils import set_seed

from benchmarks.models.load import twin
from benchmarks.plan.device import check_compiler
from benchmarks.speed.ratios import Ratio, SideBySide, Subject, Target, ratio
from benchmarks.speed.setting import Setting, contestant, whole_steps

NAMES = ("lora", "lora-smoe")
STEP = {n: Target(name=f"training step of {n}: torch.compile / without", bound=None) for n in NAMES}
RUN = {n: Target(name=f"default run of {n}: torch.compile, compiling included / without", bound=None) for n in NAMES}
PLAIN, COMPILED = "plain", "compiled"


def targets(device: str) -> list[Target]:
    """Return the ratios measured on `device`, with their bounds."""
    return [target for name in NAMES for target in (STEP[name], RUN[name])]


def prepare(setting: Setting) -> Subject:
    """Let a step of both kinds take turns, after all lengths of a default run were met once.

    Raises RuntimeError where there is nothing to compile with.
    """
    try:
        check_compiler(setting.device)
    except ValueError as error:
        raise RuntimeError(error) from error
    base, chosen = setting.load(), [setting.middle_step]
    few = [setting.heaviest_step, setting.default_steps[0], *chosen]  # several lengths, so that none is taken as fixed
    competitors: dict[str, Callable[[], object]] = {}
    first: dict[str, dict[str, float]] = {}
    torch.compiler.reset()
    for name in NAMES:
        method = contestant(name, setting.experts)
        set_seed(0)
        model = method.attach(twin(base), {}, len(few))
        run = partial(whole_steps, model, method)
        competitors |= {f"{name} {PLAIN}": partial(run, chosen), f"{name} {COMPILED}": partial(run, chosen, True)}
        first[name] = {kind: seconds_of(partial(run, few, kind == COMPILED)) for kind in (PLAIN, COMPILED)}
    contest = SideBySide(competitors, setting.device)

    def rows() -> list[Ratio]:
        made = []
        for name in NAMES:
            step = {kind: contest.median(f"{name} {kind}") for kind in (PLAIN, COMPILED)}
            compiling = max(first[name][COMPILED] - len(few) * step[COMPILED], 0.0)
            made += rows_of(name, contest.over(f"{name} {COMPILED}", f"{name} {PLAIN}"), step, compiling, setting)
        return made

    return Subject(contest, setting.rounds(6), rows)


def rows_of(name: str, steps: list[float], step: dict[str, float], compiling: float, setting: Setting) -> list[Ratio]:
    """Return both ratios of a method. step: seconds of one, by kind; compiling: seconds that it takes."""
    count = len(setting.default_steps)
    whole = (compiling + count * step[COMPILED]) / (count * step[PLAIN])
    ms = " / ".join(f"{1000 * step[kind]:.0f}" for kind in (COMPILED, PLAIN))
    saved = step[PLAIN] - step[COMPILED]
    pays = f"pays after {compiling / saved:,.0f} steps" if saved > 0 else "never pays"
    detail = f"compiling takes {compiling:.0f} s and {pays}; a default run has {count}"
    return [ratio(STEP[name], steps, f"{ms} ms"), ratio(RUN[name], [whole], detail)]


def seconds_of(run: partial[None]) -> float:
    """Return the wall-clock of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
