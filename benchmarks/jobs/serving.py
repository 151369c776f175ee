"""What a user of a trained adapter pays: prefill and decode tokens per second, and peak memory, beside the base.

Three forms of a model answer the same prompts in turn, in one process: the base, the model with its adapter attached,
and, where that is possible, the model with the adapter merged into its weights. They answer greedily by transformers'
own `generate`, whose time until the first token is the prefill and from the first to the last the decoding.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from baselines.method import Attached
from benchmarks.jobs.meter import rise, synchronize
from benchmarks.models.load import count

BASE, ATTACHED, MERGED = "base", "attached", "merged"
BATCHES = (1, 8, 32)
SIZES = {"cpu": (32, 8), "cuda": (256, 64)}  # tokens of a prompt and of an answer: seconds a turn


@dataclass
class Clock(StoppingCriteria):
    """Notes when each token was there; stops nothing."""

    times: list[float] = field(default_factory=list)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Note one token of every row."""
        synchronize(input_ids.device.type)
        self.times.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def serve(
    base: torch.nn.Module,
    attached: Attached,
    rounds: int,
    vocabulary: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, Any], int]:
    """Measure every form at every batch in turn; returns facts for the record, and the tokens read and written.

    base: the model without its adapter; may share the attached one's weights. vocabulary: every id below it exists.
    Facts: "mergeable" (None: there is no adapter), "why_not", "kept_parameters" (those that stay beside the base's when
    it is served), "weight_bytes" of each form, and by form and batch the tokens per second of every round, "prefill"
    and "decode", and "peak_bytes", of its weights and what answering takes above them.
    """
    merged, why_not = merged_copy(attached)
    forms = {BASE: base, ATTACHED: attached, **({} if merged is None else {MERGED: merged})}
    training = {model: model.training for model in forms.values()}
    try:
        prompt, written = SIZES[next(base.parameters()).device.type]
        measured, tokens = _measured(forms, (prompt, written), rounds, vocabulary, progress)
    finally:
        for model, mode in training.items():
            model.train(mode)
    has_adapter = hasattr(attached, "peft_config")
    facts = {
        "prompt_tokens": prompt,
        "answer_tokens": written,
        "mergeable": merged is not None if has_adapter else None,
        "why_not": why_not if has_adapter else None,
        "kept_parameters": count(attached) - count(base) if merged is None and has_adapter else 0,
        "weight_bytes": {name: weight_bytes(model) for name, model in forms.items()},
        "forms": measured,
    }
    return facts, tokens


def _measured(
    forms: Mapping[str, Any],
    sizes: tuple[int, int],
    rounds: int,
    vocabulary: int,
    progress: Callable[[int, int], None],
) -> tuple[dict[str, dict[str, Any]], int]:
    """Let the forms take turns: at each batch a round to warm up, those that tell speeds, and one for memory."""
    device, (prompt, written) = next(forms[BASE].parameters()).device, sizes
    generator = torch.Generator().manual_seed(0)
    measured: dict[str, dict[str, Any]] = {name: {} for name in forms}
    for model in forms.values():
        model.eval()
    turns = [(batch, number) for batch in BATCHES for number in range(rounds + 2)]
    for done, (batch, number) in enumerate(turns):
        progress(done, len(turns))
        prompts = torch.randint(vocabulary, (batch, prompt), generator=generator).to(device)
        for name in list(forms)[:: 1 if number % 2 else -1]:
            entry = measured[name].setdefault(str(batch), {"prefill": [], "decode": []})
            if number > rounds:
                above = rise(str(device), partial(answer, forms[name], prompts, written))
                entry["peak_bytes"] = None if above is None else weight_bytes(forms[name]) + above
                continue
            for kind, speed in answer(forms[name], prompts, written).items():
                entry[kind] += [round(speed, 3)] if number else []
    return measured, sum(batch for batch, _ in turns) * len(forms) * (prompt + written)


@torch.no_grad()
def answer(model: torch.nn.Module, prompts: torch.Tensor, tokens: int) -> Mapping[str, float]:
    """Let the model answer prompts (B, S) with so many tokens, 2 or more; returns tokens per second of both parts.

    "prefill": until the first token is there; "decode": from there to the last.
    """
    clock = Clock()
    synchronize(prompts.device.type)
    start = time.perf_counter()
    model.generate(  # type: ignore[operator]
        input_ids=prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        do_sample=False,
        use_cache=True,
        pad_token_id=0,
        stopping_criteria=StoppingCriteriaList([clock]),
    )
    first, last = clock.times[0], clock.times[-1]
    return {"prefill": prompts.numel() / (first - start), "decode": len(prompts) * (tokens - 1) / (last - first)}


def merged_copy(attached: Attached) -> tuple[Any, str | None]:
    """Return a copy of the model with its adapter merged into the weights, or None and why it cannot be merged."""
    if not hasattr(attached, "peft_config"):
        return None, "there is no adapter"
    try:
        return copy.deepcopy(attached).merge_and_unload(), None
    except (AttributeError, NotImplementedError, ValueError) as error:
        return None, str(error).split(": ")[0]  # not the name of every block


def weight_bytes(model: torch.nn.Module) -> int:
    """Return the bytes of a model's weights and buffers, shared ones once."""
    tensors = {t.data_ptr(): t for t in (*model.parameters(), *model.buffers())}
    return sum(t.numel() * t.element_size() for t in tensors.values())
