"""What the comparisons share: sizes, the model, real batches of the training mixture, and one allocation."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from transformers.utils import logging

from baselines.allocator import Facts
from baselines.experts import ExpertMethod
from baselines.method import Method
from baselines.methods.lora import Lora
from baselines.methods.lora_smoe import LoraSMoE
from baselines.sizes import nearest_rank, own_shapes
from benchmarks import registry
from benchmarks.data import batches
from benchmarks.data.examples import Example
from benchmarks.data.training import training_data
from benchmarks.jobs import shared_prefix
from benchmarks.jobs.evaluate import Wrapped, asked_of
from benchmarks.jobs.train import train
from benchmarks.models.load import EMBEDDED, TINY, load_tokenizer, skeleton
from benchmarks.models.load import load as load_model
from benchmarks.plan import match
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import MICRO_BATCH, resolve
from results.spec import LM_EVAL, SHARED_PREFIX
from smoe import Probe, block_params

TRAINED = ("lora", "lora-own", "molora", "lora-smoe", "adalora")  # what a default run trains, and LoRA in our layer
SCORERS = (LM_EVAL, SHARED_PREFIX)
EVALUATED = 16  # documents a task, half of what `--profile small` asks


@dataclass(frozen=True, kw_only=True)
class Allocated(ExpertMethod):
    """LoRA-SMoE after its allocation, so that a training step is measured alone."""

    name: ClassVar[str] = "allocated"
    summary: ClassVar[str] = "LoRA-SMoE with a given allocation"
    source: ClassVar[str] = LoraSMoE.source
    experts: Mapping[str, int]

    def allocate(self, model: Any, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        return self.experts, {}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Sizes of a run. The model `tiny` gets random token sequences, so that a smoke run needs no data."""

    device: str = "cpu"
    model: str = EMBEDDED
    dtype: str = "bfloat16"
    width: int = 2048  # of the single layer
    tokens: int = 1024  # that it sees
    effort: float = 1.0  # multiplies the number of rounds

    def rounds(self, usual: int) -> int:
        return max(1, round(usual * self.effort))

    def load(self) -> Any:
        logging.disable_progress_bar()
        return load_model(self.model, self.dtype, self.device)[0]

    @cached_property
    def examples(self) -> dict[str, list[Example]]:
        """The training documents of `--profile full`, by task."""
        if self.model == TINY:
            rng = random.Random(0)
            return {
                f"task{t}": [Example("", tuple(rng.choices(range(256), k=8 + n)), 2, False) for n in range(4)]
                for t in range(8)
            }
        asked: dict[str, Any] = dict(dtype=self.dtype, device=self.device, model=self.model)
        (spec, *_) = resolve(Request(methods="lora-smoe", profile="full", **asked))
        return training_data(spec, self.tokenizer, {})[1]

    def training_batches(self, count: int) -> list[tuple[batches.Batch, int]]:
        """(batch, real tokens) at evenly spaced quantiles of width among batches of similar length; one: the median."""
        size = Request.batch_size
        every = [example for task_examples in self.examples.values() for example in task_examples]
        full = [b for b in batches.micro_batches(every, size, 0) if len(b["input_ids"]) == size]
        chosen = [full[int((i + 0.5) * len(full) / count)] for i in range(count)]
        return [(batch, int(batch["attention_mask"].sum())) for batch in chosen]

    @cached_property
    def default_steps(self) -> list[batches.Step]:
        """The steps of a default run, each cut into micro-batches as there."""
        tiny: dict[str, Any] = dict(suite="cost", train_documents=8) if self.model == TINY else {}
        asked: dict[str, Any] = dict(methods="lora", dtype=self.dtype, device=self.device, model=self.model)
        (spec,) = resolve(Request(**asked, **tiny))
        data = self.examples if self.model == TINY else training_data(spec, self.tokenizer, {})[1]
        every = [example for task_examples in data.values() for example in task_examples]
        micro_batch = MICRO_BATCH if self.model == TINY else spec.micro_batch
        return list(batches.stream(every, spec.batch_size, micro_batch, spec.epochs, spec.seed, 0))

    @property
    def heaviest_step(self) -> batches.Step:
        """The one with the micro-batch of most tokens, its width counting twice as it does in attention."""

        def weight(batch: batches.Batch) -> int:
            rows, width = batch["input_ids"].shape
            return rows * width * width

        return max(self.default_steps, key=lambda step: max(map(weight, step[0])))

    @property
    def middle_step(self) -> batches.Step:
        """The one with the median of tokens."""
        return sorted(self.default_steps, key=lambda step: step[1])[len(self.default_steps) // 2]

    @cached_property
    def some_requests(self) -> list[shared_prefix.Request]:
        """Those of every eighth document."""
        documents = list(dict.fromkeys(tuple(context) for context, _ in self.requests))
        chosen = set(documents[::8])
        return [request for request in self.requests if tuple(request[0]) in chosen]

    @cached_property
    def requests(self) -> list[shared_prefix.Request]:
        """What a default run asks of a model: (context, continuation) in tokens, documents of every task."""
        if self.model == TINY:
            rng = random.Random(0)
            contexts = [rng.choices(range(256), k=rng.randint(5, 30)) for _ in range(8)]
            return [(context, rng.choices(range(256), k=3)) for context in contexts for _ in range(4)]
        asked: dict[str, Any] = dict(device=self.device, model=self.model, limit=EVALUATED)
        (spec, *_) = resolve(Request(methods="lora", **asked))
        tasks, _ = training_data(spec, self.tokenizer, {})
        return asked_of(self.load(), self.tokenizer, tasks)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokeniser of the model, loaded once and without its weights."""
        return load_tokenizer(self.model, skeleton(self.model))

    @property
    def full_tokens(self) -> int:
        """Real tokens of one epoch of `--profile full`."""
        return sum(len(e.ids) for task_examples in self.examples.values() for e in task_examples)

    @cached_property
    def probe(self) -> dict[str, list[batches.Batch]]:
        """The default probe: so many documents of each task."""
        samples = batches.probe(self.examples, Request.probe_documents, Request.batch_size, 0)
        return {t: [{k: v.to(self.device) for k, v in b.items()} for b in bs] for t, bs in samples.items()}

    @cached_property
    def experts(self) -> dict[str, int]:
        """Experts of every block as LoRA-SMoE allocates them by default."""
        return dict(LoraSMoE().allocate(self.load(), self.probe)[0])


def answer(setting: Setting, model: Any, requests: Sequence[shared_prefix.Request], scorer: str) -> list[float]:
    """Ask for the log-likelihoods by lm-eval's own wrapper or by shared prefixes."""
    lm = Wrapped(model, setting.tokenizer, Request.evaluation_batch_size, lambda done, total: None, scorer)
    asked = [(("", ""), list(context), list(continuation)) for context, continuation in requests]
    return [value for value, _ in lm._loglikelihood_tokens(asked)]


def trainable(model: Any) -> int:
    """Count the parameters that are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def matched_lora(setting: Setting) -> Lora:
    """LoRA of the rank whose trainable parameters come nearest to the allocation's."""
    lora = Lora()
    shapes = own_shapes(match.shapes_of(skeleton(setting.model)), lora.target_modules)
    wanted = sum(block_params(shapes[block], experts, LoraSMoE.r) for block, experts in setting.experts.items())
    rank = nearest_rank(lambda r: sum(lora.block_params(shape, r) for shape in shapes.values()), wanted)
    return Lora(r=rank, alpha=2 * rank)


def contestant(name: str, experts: Mapping[str, int]) -> Method:
    """Return the method of that name at its defaults; LoRA-SMoE with its allocation given."""
    return Allocated(experts=experts) if name == LoraSMoE.name else registry.method(name)()


def steps(model: Any, method: Method, chosen: list[tuple[batches.Batch, int]], compiled: bool = False) -> None:
    """Whole training steps on the batches, each of which is a step."""
    whole_steps(model, method, [([batch], tokens) for batch, tokens in chosen], compiled)


def whole_steps(
    model: Any,
    method: Method,
    chosen: Sequence[batches.Step],
    compiled: bool = False,
    progress: Callable[..., None] = lambda done, total, **facts: None,
) -> None:
    """Whole training steps, by the harness's own loop. progress: told after each, as there."""
    options = {"learning_rate": Lora.rate, "warmup_fraction": 0.1, "weight_decay": 0.0, "seed": 0}
    train(
        model,
        method,
        chosen,
        total_steps=len(chosen),
        compiled=compiled,
        progress=progress,
        **options,  # type: ignore[arg-type]
    )
