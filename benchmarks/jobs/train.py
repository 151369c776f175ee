"""The one training loop. It knows a model, a method and batches, and no method by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from accelerate.utils import set_seed

from baselines.method import Method
from benchmarks.data.batches import Batch, Step
from smoe.gradients import accepted_names, innermost

CLIP = 1.0  # largest norm of the gradient over all trained parameters
HALF_SCALE = 1024  # of the loss where weights are float16: small gradients would be 0; a power of two rounds nothing
LOSS_CHECK_INTERVAL = 16  # steps between two checks of losses and gradient norms on a GPU
HINT = "a lower learning rate may help"


def answer_width(batch: Batch) -> int:
    """Tokens of the longest answer in a batch that is still on the CPU."""
    return int((batch["labels"] != -100).sum(1).max())


def answer_loss(model: torch.nn.Module, batch: Batch, width: int) -> torch.Tensor:
    """Mean over samples of the mean negative log-likelihood of each sample's answer tokens.

    batch: left-padded (B, S) tensors; width: its `answer_width`, passed in so that a GPU is never asked. Logits are
    computed only where an answer is predicted, and labels are not given to the model, since some tuners add terms of
    their own to a loss that the model computes.
    """
    return mean_loss(*answer_logits(model, batch, width))


def answer_logits(model: torch.nn.Module, batch: Batch, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits (B, width, vocabulary) that predict the last `width` tokens, and their labels (B, width)."""
    labels = batch["labels"]
    accepted = accepted_names(model)
    inputs = {k: v for k, v in batch.items() if k != "labels" and k in accepted}
    if "task" in batch and hasattr(model, "enter_tasks"):  # a mixture, whose router may be told
        model.enter_tasks(batch["task"])  # type: ignore[operator]
    if "logits_to_keep" in accepted:
        logits = model(**inputs, logits_to_keep=width + 1).logits
    else:
        logits = model(**inputs).logits[:, -width - 1 :]
    return logits[:, :-1], labels[:, -width:]


def mean_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over samples of the mean over their answer tokens; logits (B, width, vocabulary), targets (B, width)."""
    losses = F.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none")  # (B, width)
    counts = (targets != -100).sum(1)
    return (losses.sum(1) / counts).mean()


def train(
    model: torch.nn.Module,
    method: Method,
    steps: Iterable[Step],
    *,
    total_steps: int,
    learning_rate: float,
    warmup_fraction: float,
    weight_decay: float,
    seed: int,
    compiled: bool = False,
    progress: Callable[..., None] = lambda done, total, **facts: None,
) -> tuple[list[float], int]:
    """Train what requires a gradient, in place; returns the loss of every step (without penalties) and the tokens.

    A step's loss is the mean over its documents, however they are cut into micro-batches: the loss and the penalty of
    each micro-batch count by its share of the documents. A regularizer is added once a step.
    progress: told after every step (done, total), and by name the newest known loss and the tokens so far.
    compiled: forward and backward through torch.compile, for any length of batch; the first steps compile.
    Raises FloatingPointError, naming the method and the step, where a loss or the norm of the gradient is not finite,
    or a weight after the last step: the run is of no use from there on.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters or total_steps == 0:
        return [], 0
    set_seed(seed)  # dropout
    device = parameters[0].device
    fused = device.type == "cuda"
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=fused)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, partial(rate, round(warmup_fraction * total_steps), total_steps)
    )
    watch = _Watch(method.name, device)
    scale = HALF_SCALE if any(p.dtype == torch.float16 for p in model.parameters()) else 1
    tokens = 0
    model.train()
    forward: Any = torch.compile(model, dynamic=True) if compiled else model
    for step, (micro_batches, step_tokens) in enumerate(steps, start=1):
        documents = sum(len(batch["labels"]) for batch in micro_batches)
        parts = []
        for batch in micro_batches:
            share = len(batch["labels"]) / documents
            loss = share * answer_loss(forward, _moved(batch, device), answer_width(batch))
            penalty = method.penalty(model)
            (scale * (loss if penalty is None else loss + share * penalty)).backward()
            parts.append(loss.detach())
        if (regularizer := method.regularizer(model)) is not None:
            (scale * regularizer).backward()
        _unscale(parameters, scale)
        watch.add(torch.stack(parts).sum(), torch.nn.utils.clip_grad_norm_(parameters, CLIP))
        optimizer.step()
        scheduler.step()
        method.after_step(model, step)
        optimizer.zero_grad()
        tokens += step_tokens
        progress(step, total_steps, loss=watch.latest, tokens=tokens)
    losses = watch.losses()
    watch.check_weights(parameters)
    model.eval()
    return losses, tokens


@contextmanager
def checkpointed(model: torch.nn.Module) -> Iterator[None]:
    """Train meanwhile with the inputs of layers kept alone: what is in a layer is computed again for its gradients.

    Losses and gradients are those of training without, dropout and what routers add to the loss included. Raises
    ValueError where the model's architecture has no such thing.
    """
    core = innermost(model)
    core.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        yield
    finally:
        core.gradient_checkpointing_disable()


def rate(warmup_steps: int, total_steps: int, step: int) -> float:
    """Share of the peak rate at a step, from 0 on: linear warm-up from above 0, then linear decay to above 0."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return max(0, total_steps - step) / max(1, total_steps - warmup_steps)


def _unscale(parameters: Iterable[torch.Tensor], scale: int) -> None:
    """Divide gradients by what their loss was multiplied with."""
    for gradient in (p.grad for p in parameters if scale != 1 and p.grad is not None):
        gradient /= scale


class _Watch:
    """Losses and norms of the gradient, step by step, all of them finite."""

    def __init__(self, method: str, device: torch.device):
        self._method = method
        self._on_cpu = device.type == "cpu"
        self.latest: float | None = None  # loss of the last step that was looked at; on a GPU some steps ago
        self._steps: list[torch.Tensor] = []  # (2,) of each step: loss, norm of the gradient before it is clipped
        # A GPU's are looked at when they have come by themselves, at the next look, so that the host never waits.
        self._seen = torch.zeros(2, pin_memory=device.type == "cuda")

    def add(self, loss: torch.Tensor, norm: torch.Tensor) -> None:
        self._steps.append(torch.stack([loss.float(), norm.float()]))
        step = len(self._steps)
        if self._on_cpu:
            self._check(self._steps[-1].tolist(), step)
        elif step % LOSS_CHECK_INTERVAL == 0:
            self._check(self._seen.tolist(), step - LOSS_CHECK_INTERVAL)
            self._seen.copy_(self._steps[-1], non_blocking=True)

    def losses(self) -> list[float]:
        """Return the loss of every step. Raises FloatingPointError for the first step that is not finite."""
        values = torch.stack(self._steps).tolist()
        for step, both in enumerate(values, start=1):
            self._check(both, step)
        return [loss for loss, _ in values]

    def check_weights(self, parameters: Iterable[torch.Tensor]) -> None:
        largest = torch.stack([torch.linalg.vector_norm(p.detach(), torch.inf).float() for p in parameters])
        if not torch.isfinite(largest).all():
            step = len(self._steps)
            raise FloatingPointError(f"{self._method}: weights after step {step} are not finite; {HINT}")

    def _check(self, both: Sequence[float], step: int) -> None:
        self.latest = both[0] if step else None  # 0: nothing has come yet
        for what, value in zip(("loss", "norm of the gradient"), both, strict=True):
            if not math.isfinite(value):
                raise FloatingPointError(f"{self._method}: the {what} at step {step} is {value}; {HINT}")


def _moved(batch: Batch, device: torch.device) -> Batch:
    if device.type == "cpu":
        return batch
    if device.type != "cuda":  # nobody else has pinned memory to copy from
        return {k: v.to(device) for k, v in batch.items()}
    return {k: v.pin_memory().to(device, non_blocking=True) for k, v in batch.items()}
