"""What the comparisons share: sizes, the model, real batches of the training mixture, and one allocation."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from transformers.utils import logging

from baselines.experts import ExpertMethod, Facts
from baselines.method import Method
from baselines.methods.lora import Lora
from baselines.methods.lora_smoe import LoraSMoE
from baselines.sizes import nearest_rank, own_shapes
from benchmarks.data import batches
from benchmarks.data.examples import Example
from benchmarks.data.training import training_data
from benchmarks.jobs.train import train
from benchmarks.models.load import EMBEDDED, TINY, skeleton
from benchmarks.models.load import load as load_model
from benchmarks.plan import match
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from smoe import Probe, block_params


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
        return self._model_and_tokenizer()[0]

    def _model_and_tokenizer(self) -> tuple[Any, Any]:
        logging.disable_progress_bar()
        return load_model(self.model, self.dtype, self.device)

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
        return training_data(spec, self._model_and_tokenizer()[1], {})[1]

    def training_batches(self, count: int) -> list[tuple[batches.Batch, int]]:
        """(batch, real tokens) at evenly spaced quantiles of width among batches of similar length; one: the median."""
        size = Request.batch_size
        every = [example for task_examples in self.examples.values() for example in task_examples]
        full = [b for b in batches.micro_batches(every, size, 0) if len(b["input_ids"]) == size]
        chosen = [full[int((i + 0.5) * len(full) / count)] for i in range(count)]
        return [(batch, int(batch["attention_mask"].sum())) for batch in chosen]

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


def steps(model: Any, method: Method, chosen: list[tuple[batches.Batch, int]], compiled: bool = False) -> None:
    """Whole training steps on the batches, by the harness's own loop."""
    options = {"learning_rate": Request.learning_rate, "warmup_fraction": 0.1, "weight_decay": 0.0, "seed": 0}
    whole = [([batch], tokens) for batch, tokens in chosen]
    train(model, method, whole, total_steps=len(chosen), compiled=compiled, **options)  # type: ignore[arg-type]
