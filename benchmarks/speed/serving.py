"""Writing with an adapter against the base: attached where a router decides, merged where it can be."""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.jobs.serving import SIZES, answer, merged_copy
from benchmarks.models.load import twin
from benchmarks.speed.ratios import Ratio, SideBySide, Subject, Target, ratio
from benchmarks.speed.setting import Allocated, Setting, matched_lora

BATCHES = (1, 8)
ROUTED = {n: Target(name=f"serving, batch {n}: time of LoRA-SMoE attached / base", bound=None) for n in BATCHES}
ATTACHED = {n: Target(name=f"serving, batch {n}: time of LoRA attached / base", bound=None) for n in BATCHES}
MERGED = {n: Target(name=f"serving, batch {n}: time of LoRA merged / base", bound=1.05) for n in BATCHES}


def targets(device: str) -> list[Target]:
    """Return the ratios measured on `device`, with their bounds."""
    return [of[n] for n in BATCHES for of in (ROUTED, ATTACHED, MERGED)]


def prepare(setting: Setting) -> Subject:
    """All forms in one process, each answering the same prompts, a whole answer a turn."""
    model = setting.load()
    forms = {"base": twin(model), "lora": matched_lora(setting).attach(model, {}, 1)}
    forms["merged"], _ = merged_copy(forms["lora"])
    forms["lora-smoe"] = Allocated(experts=setting.experts).attach(setting.load(), {}, 1)
    generator = torch.Generator().manual_seed(0)
    prompt, written = SIZES[setting.device]
    rows_of = {n: torch.randint(len(setting.tokenizer), (n, prompt), generator=generator) for n in BATCHES}
    contest = SideBySide(
        {
            f"{name} {n}": partial(answer, forms[name].eval(), prompts.to(setting.device), written)
            for n, prompts in rows_of.items()
            for name in forms
        },
        setting.device,
    )

    def rows() -> list[Ratio]:
        def one(target: Target, name: str, n: int) -> Ratio:
            detail = f"{contest.median(f'{name} {n}'):.2f} / {contest.median(f'base {n}'):.2f} s an answer"
            return ratio(target, contest.over(f"{name} {n}", f"base {n}"), detail)

        chosen = ((ROUTED, "lora-smoe"), (ATTACHED, "lora"), (MERGED, "merged"))
        return [one(of[n], name, n) for n in BATCHES for of, name in chosen]

    return Subject(contest, setting.rounds(6), rows)
