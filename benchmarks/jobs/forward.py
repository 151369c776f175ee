"""Passes that score nothing: evaluation of which only the cost is asked, and the first use of a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from benchmarks.data.batches import collate
from benchmarks.data.examples import Example
from benchmarks.jobs.train import answer_loss, answer_width
from smoe.gradients import frozen_for_scoring


def first_use(model: torch.nn.Module) -> None:
    """Send a few tokens through a frozen model and back, so that no phase pays for what a device does once.

    Kernels are loaded and libraries made ready by the first product: 1 to 3 s, which would fall into the training of
    one method and into the allocation of another. A CPU has nothing of the kind, and is left alone.
    """
    device = next(model.parameters()).device
    if device.type == "cpu":
        return
    with frozen_for_scoring(model):
        ids = torch.zeros((1, 8), dtype=torch.long, device=device)
        model(input_ids=ids).logits.float().mean().backward()


@torch.no_grad()
def forward(
    model: torch.nn.Module,
    documents: Sequence[Example],
    batch_size: int,
    pad_token: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Pass the documents through the model, `batch_size` at once; returns their tokens. Raises FloatingPointError."""
    device = next(model.parameters()).device
    losses = []
    for start in range(0, len(documents), batch_size):
        batch = collate(documents[start : start + batch_size], pad_token)
        losses.append(answer_loss(model, {name: t.to(device) for name, t in batch.items()}, answer_width(batch)))
        progress(min(start + batch_size, len(documents)), len(documents))
    if losses and not torch.isfinite(torch.stack(losses)).all():
        raise FloatingPointError("the loss of a document that was not trained on is not finite")
    return sum(len(document.ids) for document in documents)
