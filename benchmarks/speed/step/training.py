"""A whole training step of LoRA-SMoE against LoRA's of as many parameters: time and peak memory."""

from __future__ import annotations

from baselines.method import Method
from benchmarks.models.load import DTYPES
from benchmarks.speed.memory import peaks
from benchmarks.speed.ratios import Ratio, SideBySide, Subject, Target, ratio
from benchmarks.speed.setting import Allocated, Setting, matched_lora, steps, trainable

TIME = Target(name="training step: time of LoRA-SMoE / LoRA", bound=1.15)
MEMORY = Target(name="training step: peak memory of LoRA-SMoE / LoRA", bound=1.05)
CAST = Target(name="training step: time of LoRA-SMoE / LoRA held in the model's dtype", bound=None)
SCORING = Target(name="sensitivity: peak memory / LoRA training step", bound=1.0)
STEPS = 2  # a turn


def targets(device: str) -> list[Target]:
    """Return the ratios measured on `device`, with their bounds."""
    return [TIME, CAST, MEMORY, SCORING]


def prepare(setting: Setting) -> Subject:
    """All models in one process for time; a process each for memory."""
    lora = matched_lora(setting)
    methods: dict[str, Method] = {"lora": lora, "lora-smoe": Allocated(experts=setting.experts), "lora-cast": lora}
    models = {name: method.attach(setting.load(), {}, STEPS) for name, method in methods.items()}
    for weight in models["lora-cast"].parameters():
        weight.data = weight.data.to(DTYPES[setting.dtype])
    chosen = setting.training_batches(1) * STEPS
    contest = SideBySide(
        {name: lambda name=name: steps(models[name], methods[name], chosen) for name in models},  # type: ignore[misc]
        setting.device,
    )

    def rows() -> list[Ratio]:
        counts = {name: trainable(model) for name, model in models.items()}
        sizes = f"{counts['lora-smoe']:,} / {counts['lora']:,} trainable (LoRA r={lora.r})"
        ms = {name: f"{1000 * contest.median(name) / STEPS:.0f} ms" for name in models}
        shape = "{} x {}".format(*chosen[0][0]["input_ids"].shape)
        peak_bytes = peaks(setting)

        def memory(target: Target, what: str) -> Ratio:
            mb = {name: f"{total / 1e6:.0f}" for name, (total, _) in peak_bytes.items()}
            above = {name: f"{added / 1e6:.0f}" for name, (_, added) in peak_bytes.items()}
            detail = f"{mb[what]} / {mb['lora']} MB; above the loaded model {above[what]} / {above['lora']} MB"
            return ratio(target, [peak_bytes[what][0] / peak_bytes["lora"][0]], detail)

        return [
            ratio(
                TIME,
                contest.over("lora-smoe", "lora"),
                f"{ms['lora-smoe']} / {ms['lora']} a step of {shape} tokens; {sizes}",
            ),
            ratio(CAST, contest.over("lora-smoe", "lora-cast"), f"{ms['lora-smoe']} / {ms['lora-cast']}"),
            memory(MEMORY, "lora-smoe"),
            memory(SCORING, "sensitivity"),
        ]

    return Subject(contest, setting.rounds(12), rows)
