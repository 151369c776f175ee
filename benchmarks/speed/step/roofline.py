"""FLOP/s that training and evaluation reach, over those of their own matrix products made by themselves.

The products of one step, or of one evaluation, are noted as operators make them and made again, as many of each, on
operands of the same shapes, layouts and types, in turns with the whole: their rate is the peak at these sizes, with
weights that come from memory as they do there (a weight that stays in a cache would be read faster), and what
the whole reaches of it is the share of its time that it would take were there nothing beside them. Padding counts as
work here; how much there is of it has rows of its own. The table tells the time by its cause, as torch's profiler does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial

import torch
from accelerate.utils import set_seed
from torch.profiler import ProfilerActivity, profile

from benchmarks.jobs.evaluate import TOKENS_A_REQUEST
from benchmarks.jobs.shared_prefix import Scorer, rows_of
from benchmarks.models.load import skeleton, twin
from benchmarks.plan.request import Request
from benchmarks.speed.ratios import Ratio, SideBySide, Subject, Target, ratio
from benchmarks.speed.setting import TRAINED, Setting, answer, contestant, whole_steps
from benchmarks.speed.step.products import FORMULAS, Products
from results.spec import SHARED_PREFIX
from results.table import Table

BASE = "frozen"
PLANNED = 30  # steps that methods are told of, enough for AdaLoRA's schedule
TRAINING = {
    name: Target(
        name=f"training step of {name}: FLOP/s / its matrix products' alone",
        bound=0.7 if name == "lora-smoe" else None,
        at_most=False,
    )
    for name in TRAINED
}
EVALUATION = {
    name: Target(name=f"evaluation of {name}: FLOP/s / its matrix products' alone", bound=None, at_most=False)
    for name in (BASE, *TRAINED)
}
PADDED = {
    "training": Target(name="training: padding / tokens of a default run", bound=0.05),
    "evaluation": Target(name="evaluation: padding / tokens of a default run", bound=None),
}
CAUSES = ("products", "softmax", "casts and copies", "other operators", "between operators")
TITLE = "What takes the time, in percent"
SOFTMAX = ("softmax", "logsumexp")
COPIES = ("copy_", "_to_copy", "clone", "cat", "contiguous")


def targets(device: str) -> list[Target]:
    """Return the ratios measured on `device`, with their bounds."""
    return [*TRAINING.values(), *EVALUATION.values(), *PADDED.values()]


def prepare(setting: Setting) -> Subject:
    """All methods in one process on one base; each whole has its products beside it."""
    works = works_of(setting)
    noted: dict[str, Products] = {}
    for name, work in works.items():
        with Products() as products:
            work()
        noted[name] = products
    competitors: dict[str, Callable[[], object]] = {}
    for name, work in works.items():
        competitors |= {name: work, f"products of {name}": noted[name].again(setting.device)}
    contest = SideBySide(competitors, setting.device)

    def rows() -> list[Ratio]:
        chosen = {f"training {name}": target for name, target in TRAINING.items()}
        chosen |= {f"evaluation {name}": target for name, target in EVALUATION.items()}
        reached = []
        for work, target in chosen.items():
            seconds = contest.median(work), contest.median(f"products of {work}")
            rates = " / ".join(f"{noted[work].operations / s / 1e9:.4g}" for s in seconds)
            reached.append(ratio(target, contest.over(f"products of {work}", work), f"{rates} GFLOP/s"))
        return [*reached, *padding_rows(setting)]

    @cache
    def tables() -> list[Table]:
        return [causes_table({name: causes(work, setting.device) for name, work in works.items()})]

    return Subject(contest, setting.rounds(6), rows, tables)


def works_of(setting: Setting) -> dict[str, Callable[[], object]]:
    """Return what is measured, by name: a median step of a default run by each method, and some of its requests."""
    base, step, requests = setting.load(), setting.middle_step, setting.some_requests
    works: dict[str, Callable[[], object]] = {}
    models = {BASE: base}
    for name in TRAINED:
        method = contestant(name, setting.experts)
        set_seed(0)
        models[name] = method.attach(twin(base), {}, PLANNED)
        works[f"training {name}"] = partial(whole_steps, models[name], method, [step])
    for name, model in models.items():
        works[f"evaluation {name}"] = partial(answer, setting, model, requests, SHARED_PREFIX)
    return works


def padding_rows(setting: Setting) -> list[Ratio]:
    """Return the shares of what goes through the model that is padding, in every step and for every request."""
    steps = setting.default_steps
    padded = sum(batch["input_ids"].numel() for micro_batches, _ in steps for batch in micro_batches)
    real = sum(tokens for _, tokens in steps)
    rows, _ = rows_of(setting.requests, max(len(a) + len(b) for a, b in setting.requests))
    scorer = Scorer(skeleton(setting.model), TOKENS_A_REQUEST * Request.evaluation_batch_size)
    batches = [[rows[number].width for number in together] for together in scorer.batches(rows)]
    through, asked = sum(len(widths) * max(widths) for widths in batches), sum(map(sum, batches))

    def share(target: Target, all_tokens: int, real_tokens: int) -> Ratio:
        detail = f"{all_tokens - real_tokens:,} of {all_tokens:,} tokens"
        return ratio(target, [1 - real_tokens / all_tokens], detail)

    return [share(PADDED["training"], padded, real), share(PADDED["evaluation"], through, asked)]


def causes(work: Callable[[], object], device: str) -> dict[str, float]:
    """Return the share of the work's time that each of `CAUSES` takes, their sum 1."""
    cuda = torch.device(device).type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    contest = SideBySide({"work": work}, device)
    with profile(activities=activities) as profiled:
        contest()
    total = 1e6 * contest.median("work")  # microseconds, as the profiler's
    taken = dict.fromkeys(CAUSES, 0.0)
    products = {packet.__name__ for packet in FORMULAS}
    for event in profiled.key_averages():
        name = event.key.removeprefix("aten::")
        if event.key.startswith("aten::"):
            taken[_cause(name, products)] += event.self_device_time_total if cuda else event.self_cpu_time_total
    taken[CAUSES[-1]] = max(total - sum(taken.values()), 0.0)
    whole = sum(taken.values())
    return {cause: taken[cause] / whole for cause in CAUSES}


def _cause(name: str, products: set[str]) -> str:
    if name in products:
        return CAUSES[0]
    if any(word in name for word in SOFTMAX):
        return CAUSES[1]
    return CAUSES[2] if name in COPIES else CAUSES[3]


def causes_table(shares: Mapping[str, Mapping[str, float]]) -> Table:
    """Lay out what takes the time of each work, in percent."""
    rows = [(name, *(f"{100 * taken[cause]:.0f}" for cause in CAUSES)) for name, taken in shares.items()]
    return Table(TITLE, ("work", *CAUSES), tuple(rows))
