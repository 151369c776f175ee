"""Evaluation without scores: documents go through the model, and only what that costs is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from benchmarks.data.batches import collate
from benchmarks.data.examples import Example
from benchmarks.jobs.train import answer_loss, answer_width


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
