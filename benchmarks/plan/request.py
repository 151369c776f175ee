"""`Request`: what is asked of a run. Types, bounds and choices stand on its fields; the command line is made of them.

What only several fields, the suite or the machine can tell is refused by `resolve`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from baselines.fields import CHECKED, Fraction, NotNegative, Positive, in_one_sentence


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Request:
    """What the command line asks for; None means the profile's or the suite's own value.

    Raises ValueError, in one sentence that names the value and what is allowed.
    """

    suite: Annotated[str, Field(description="What is trained on and scored.")] = "commonsense"
    tasks: Annotated[str | None, Field(description="lm-eval tasks in place of a suite: arc_easy,sciq.")] = None
    methods: Annotated[
        str | None,
        Field(description='Contestants, with settings: "lora:r=16,molora:num_experts=4"; @controls, @all. [@main]'),
    ] = None
    methods_from: Annotated[
        str | None, Field(description="Folder below which every adapter_config.json of PEFT is a contestant.")
    ] = None
    published_lr: Annotated[
        bool, Field(description="Contestants of --methods-from at the rate of their training_params.json.")
    ] = False
    model: Annotated[
        str | None,
        Field(description="smollm2-135m, tiny, random:<name>, a folder, a GGUF file or a hub id. [the profile's]"),
    ] = None
    source: Annotated[
        Literal["embedded", "hub"] | None, Field(description="Where documents come from. [the profile's: embedded]")
    ] = None
    revision: Annotated[
        str | None, Field(description="Commits of hub data sets: cais/mmlu=0123abc. [the newest, recorded]")
    ] = None
    protocol: Annotated[
        str | None,
        Field(description="loglik: scores the choices; generative: writes an answer. [the suite's]"),
    ] = None
    profile: Annotated[str, Field(description="Size of the run: small, medium, full or paper.")] = "small"
    seeds: Annotated[str | None, Field(description="0,1,2 or 0-4. [the profile's]")] = None
    data_seed: Annotated[
        NotNegative[int] | None,
        Field(description="Draws the training and calibration samples of every seed. [the seed]"),
    ] = None
    train_documents: Annotated[Positive[int] | None, Field(description="Over all tasks. [the profile's]")] = None
    limit: Annotated[Positive[int] | None, Field(description="Evaluation documents a task. [the profile's]")] = None
    epochs: Annotated[NotNegative[float], Field(description="Passes over the training documents.")] = 1.0
    batch_size: Annotated[Positive[int], Field(description="Documents in an optimiser step.")] = 8
    micro_batch: Annotated[
        Positive[int] | None,
        Field(description="Documents of a step that go through the model at once. [2; GPU: all]"),
    ] = None
    learning_rate: Annotated[
        Positive[float] | None,
        Field(description="Peak; linear warm-up, then linear decay to 0. [0.0005; a few methods: their own]"),
    ] = None
    warmup_fraction: Annotated[Fraction, Field(description="Of all steps, to warm up in.")] = 0.1
    weight_decay: Annotated[NotNegative[float], Field(description="Of AdamW.")] = 0.0
    max_length: Annotated[Positive[int], Field(description="Tokens of a training document.")] = 256  # as LLM-Adapters
    probe_documents: Annotated[
        Positive[int], Field(description="Calibration samples: training documents a task that allocators may read.")
    ] = 8
    evaluation_batch_size: Annotated[
        Positive[int],
        Field(description="Requests scored at once (shared-prefix: 128 tokens each); scores in bfloat16 move with it."),
    ] = 16
    scorer: Annotated[
        Literal["shared-prefix", "lm-eval"],
        Field(description="shared-prefix: one pass a document, equal to lm-eval's own within rounding."),
    ] = "shared-prefix"
    target_modules: Annotated[
        str | None,
        Field(description="Blocks that every method trains: names like q_proj,v_proj, or all-linear. [the family's]"),
    ] = None
    adapters: Annotated[
        Literal["shared", "per-task"],
        Field(description="shared: one adapter trained on all tasks; per-task: one for each."),
    ] = "shared"
    task_shares: Annotated[
        str | None,
        Field(description="Of each task in training: equal, proportional, temperature:2. [the suite's]"),
    ] = None
    match: Annotated[
        Literal["none", "params", "experts"] | None,
        Field(description="What every method has as much of as lora-smoe. [none: as they are; --data: params]"),
    ] = None
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], Field(description="Of the frozen model.")] = "bfloat16"
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps", "xpu"], Field(description="auto: cuda where there is one.")
    ] = "auto"
    quantize: Annotated[Literal["none", "4bit", "8bit"], Field(description="The frozen model, by bitsandbytes.")] = (
        "none"
    )
    malloc: Annotated[
        Literal["heap", "mapped"],
        Field(description="mapped: peak memory repeats within 1%, at up to twice the time. CPU only."),
    ] = "heap"
    compiled: Annotated[bool, Field(description="Train through torch.compile; the first steps compile.")] = False
    gradient_checkpointing: Annotated[
        bool,
        Field(description="Train with less memory and more time: layers are computed again for their gradients."),
    ] = False
    probe_router: Annotated[
        bool, Field(description="Evaluate trained routers twice more: gates shuffled over tokens, and uniform.")
    ] = False
    trust_remote_code: Annotated[bool, Field(description="Let the model's repository run its own code.")] = False
