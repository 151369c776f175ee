"""The one training loop. It knows a model, a method and batches, and no method by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers import get_linear_schedule_with_warmup

from baselines.method import Attached, Method
from benchmarks.data.batches import Batch

CLIP = 1.0  # largest norm of the gradient over all trained parameters
LOOK = 16  # steps between two looks at the loss on a GPU


def answer_width(batch: Batch) -> int:
    """Tokens of the longest answer in a batch that is still on the CPU."""
    return int((batch["labels"] != -100).sum(1).max())


def answer_loss(model: torch.nn.Module, batch: Batch, width: int) -> torch.Tensor:
    """Mean over samples of the mean negative log-likelihood of each sample's answer tokens (METHODS' L_n).

    batch: left-padded (B, S) tensors; width: its `answer_width`, passed in so that a GPU is never asked. Logits are
    computed only where an answer is predicted, and labels are not given to the model, since some tuners add terms of
    their own to a loss that the model computes.
    """
    labels = batch["labels"]
    accepted = _accepted(model)
    inputs = {k: v for k, v in batch.items() if k != "labels" and k in accepted}
    if "logits_to_keep" in accepted:
        logits = model(**inputs, logits_to_keep=width + 1).logits
    else:
        logits = model(**inputs).logits[:, -width - 1 :]
    targets = labels[:, -width:]
    losses = F.cross_entropy(logits[:, :-1].float().transpose(1, 2), targets, reduction="none")  # (B, width)
    counts = (targets != -100).sum(1)
    return (losses.sum(1) / counts).mean()


def train(
    model: torch.nn.Module,
    method: Method,
    batches: Iterable[tuple[Batch, int]],
    *,
    total_steps: int,
    learning_rate: float,
    warmup_fraction: float,
    weight_decay: float,
    seed: int,
    compiled: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[float], int]:
    """Train what requires a gradient, in place; returns the loss of every step (without the penalty) and the tokens.

    compiled: forward and backward through torch.compile, for any length of batch; the first steps compile.
    Raises FloatingPointError when a loss is not finite: the run is of no use from there on.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters or total_steps == 0:
        return [], 0
    set_seed(seed)  # dropout
    accelerator = Accelerator(cpu=parameters[0].device.type == "cpu")
    device = accelerator.device
    fused = device.type == "cuda"
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=fused)
    scheduler = get_linear_schedule_with_warmup(optimizer, round(warmup_fraction * total_steps), total_steps)
    losses: list[torch.Tensor] = []
    # A GPU's loss is looked at when it has come by itself, at the next look, so that the host never waits for it.
    seen = torch.zeros((), pin_memory=device.type == "cuda")
    tokens = 0
    model.train()
    forward: Any = torch.compile(model, dynamic=True) if compiled else model
    for step, (batch, batch_tokens) in enumerate(batches, start=1):
        loss = answer_loss(forward, _moved(batch, device), answer_width(batch))
        penalty = method.penalty(model)
        accelerator.backward(loss if penalty is None else loss + penalty)
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        scheduler.step()
        method.after_step(model, step)
        optimizer.zero_grad()
        losses.append(loss.detach())
        tokens += batch_tokens
        if device.type == "cpu":
            _check_finite(losses[-1], step)
        elif step % LOOK == 0:
            _check_finite(seen, step - LOOK)
            seen.copy_(losses[-1], non_blocking=True)
        progress(step, total_steps)
    values = torch.stack(losses).tolist()
    for step, value in enumerate(values, start=1):
        _check_finite(torch.tensor(value), step)
    model.eval()
    return values, tokens


def _check_finite(loss: torch.Tensor, step: int) -> None:
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss at step {step} is {loss.item()}; a lower learning rate may help")


def _moved(batch: Batch, device: torch.device) -> Batch:
    if device.type == "cpu":
        return batch
    return {k: v.pin_memory().to(device, non_blocking=True) for k, v in batch.items()}


def _accepted(model: Attached) -> set[str]:
    """Names that the innermost model's forward takes."""
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    return set(inspect.signature(core.forward).parameters)
