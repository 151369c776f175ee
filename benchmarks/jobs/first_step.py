"""How far one optimiser step moves a method's answers: what makes learning rates of different methods comparable.

Two methods at one learning rate need not take steps of one size: AdamW moves every weight by about the rate, and what
that does to the output is the method's scale. The measure is taken before training and leaves the model as it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from benchmarks.data.batches import Batch
from benchmarks.jobs.meter import free_bytes
from benchmarks.jobs.train import CLIP, answer_logits, answer_width, mean_loss
from smoe import Probe
from smoe.diagnostics import in_double

SAMPLES = 2  # calibration samples of each task that are looked at


def first_step(model: torch.nn.Module, probe: Probe, learning_rate: float, weight_decay: float) -> float | None:
    """Return the rms change of the answer tokens' logits by one AdamW step at `learning_rate`, over tokens and words.

    The gradient is that of the mean loss over the first two samples of each task in `probe`, clipped as in training,
    without a method's penalty; the logits are those of the same samples. Everything is computed in float32 and
    evaluation mode. None where nothing is trained, where the base is quantised, which has no float32 form, where memory
    does not hold the model in float32 beside itself, and where the step is not finite: no job fails for it.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    batches = [{name: t[:SAMPLES] for name, t in batch.items()} for batch, *_ in probe.values()]
    if not trained or not batches or getattr(model, "is_quantized", False) or not _fits(model):
        return None
    try:
        size = _rms_change(model, trained, batches, learning_rate, weight_decay)
    except torch.OutOfMemoryError:
        return None
    return size if math.isfinite(size) else None


def _rms_change(
    model: torch.nn.Module,
    trained: list[torch.nn.Parameter],
    batches: list[Batch],
    learning_rate: float,
    weight_decay: float,
) -> float:
    squares, count = 0.0, 0
    with as_it_was(model):
        optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=weight_decay)
        before = []
        for batch in batches:
            logits, targets = answer_logits(model, batch, answer_width(batch))
            (mean_loss(logits, targets) / len(batches)).backward()
            before.append(logits.detach()[targets != -100])  # (tokens, vocabulary)
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        with torch.no_grad():
            for batch, old in zip(batches, before, strict=True):
                logits, targets = answer_logits(model, batch, answer_width(batch))
                squares += float(in_double((logits[targets != -100] - old).square()).sum())
                count += old.numel()
    return math.sqrt(squares / count)


def _fits(model: torch.nn.Module) -> bool:
    """Tell whether weights in float32, with gradient and two moments of what is trained, take half of what is free."""
    free = free_bytes(next(model.parameters()).device.type)
    needed = sum(4 * p.numel() * (4 if p.requires_grad else p.dtype != torch.float32) for p in model.parameters())
    return free is None or 2 * needed < free


@contextmanager
def as_it_was(model: torch.nn.Module) -> Iterator[None]:
    """Hold the model in float32 and evaluation mode; afterwards weights, gradients, mode and random state are back."""
    tensors = [t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]
    kept, training = [t.data for t in tensors], {module: module.training for module in model.modules()}
    with torch.random.fork_rng():
        try:
            for tensor in tensors:
                # A copy also where it is float32 already, since the step is taken in place.
                tensor.data = tensor.data.to(torch.float32, copy=tensor.requires_grad)
            model.eval()
            yield
        finally:
            for tensor, data in zip(tensors, kept, strict=True):
                tensor.grad = None
                tensor.data = data
            for module, mode in training.items():
                module.training = mode
