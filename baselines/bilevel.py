"""GuiLoMo's search (arXiv 2506.14646): experts per block and ranks per expert, learned with the weights in two levels.

Every block gets E experts of rank r with A, B ~ N(0, .02), a trained diagonal, and a top-k router. A vector g (E) says
how many experts are used, a vector h_e (r) for each expert how many of its rows:

    n = max(argmax sigmoid(g), 1)        router logits + 0.5 for e <= n, - 1e4 above        (e, i count from 0)
    m = argmax sigmoid(h_e)              rows i <= m times 1, above times 1e-4

Straight through: the gradient of g_n is sum_{e <= n} dL/dmask_e sigmoid(g_e) sigma'(g_n), others get none; of h_m
alike, others 1e-4 times their own. A step takes two batches: w' = AdamW step on the first; d = dL_2(w') / d(g, h) minus
the learning rate times the mixed second derivative of L_1 times dL_2(w') / dw, by central differences; Adam on g and h
with d; then a plain step of w on the first batch. The second is the next training batch, not one held out, as in the
source. Five passes forward and backward for two batches.

Source: github Liar406/Gui-LoMo@6aabed0.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from smoe.blocks import block_shape
from smoe.gradients import frozen_for_scoring, sample_losses
from smoe.routers.softmax import route

FEW = 1  # the smallest n: two experts
USED, UNUSED = 0.5, -1e4  # added to router logits
LEAK = 1e-4  # what a row above the rank counts, and what of its gradient is let through
STD = 0.02
DIFFERENCE = 1e-2  # of the weights along a gradient, over that gradient's norm
Batch = Mapping[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Space:
    """What is searched, and how."""

    experts: int = 8
    r: int = 8
    alpha: float = 16
    top_k: int = 2
    learning_rate: float = 3e-4  # of the weights
    arch_rate: float = 3e-3  # of g and h
    arch_betas: tuple[float, float] = (0.5, 0.999)
    arch_decay: float = 1e-3


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search ended with."""

    ranks: dict[str, list[int]]  # block -> rank of each expert in use
    start: dict[str, list[int]]  # the same at the random start
    steps: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


class _UpTo(torch.autograd.Function):
    """1 mask up to the largest entry and another value above, straight through; see the top of this file."""

    @staticmethod
    def forward(ctx: Any, s: torch.Tensor, least: int, leak: float, inside: float, above: float) -> torch.Tensor:
        index = s.argmax(-1, keepdim=True).clamp_min(least)
        kept = torch.arange(s.shape[-1], device=s.device) <= index
        ctx.save_for_backward(s, kept, index)
        ctx.leak = leak
        return torch.where(kept, inside, above).to(s.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        s, kept, index = ctx.saved_tensors
        together = (grads[0] * s * kept).sum(-1, keepdim=True)
        return (ctx.leak * grads[0]).scatter(-1, index, together), None, None, None, None


def up_to(
    scores: torch.Tensor, least: int = 0, leak: float = 0.0, inside: float = 1.0, above: float = 0.0
) -> torch.Tensor:
    """Return `inside` up to the largest of sigmoid(scores) (..., n), at least to `least`, and `above` above it."""
    mask: torch.Tensor = _UpTo.apply(torch.sigmoid(scores), least, leak, inside, above)  # type: ignore[no-untyped-call]
    return mask


class SearchBlock(nn.Module):
    """The experts of one block while they are searched: x (..., I) -> update (..., O)."""

    a: nn.Parameter  # (E r, I)
    b: nn.Parameter  # (O, E r)
    diagonal: nn.Parameter  # (E r,)
    router: nn.Parameter  # (E, I)
    g: nn.Parameter  # (E,)
    h: nn.Parameter  # (E, r)

    def __init__(self, inputs: int, outputs: int, space: Space, device: torch.device) -> None:
        super().__init__()
        self.space = space
        columns = space.experts * space.r
        drawn = {
            "a": STD * torch.randn(columns, inputs),
            "b": STD * torch.randn(outputs, columns),
            "diagonal": torch.ones(columns),
            "router": nn.Linear(inputs, space.experts, bias=False).weight.detach(),
            "g": torch.softmax(torch.randn(space.experts), -1),
            "h": torch.softmax(torch.randn(space.experts, space.r), -1),
        }
        for name, values in drawn.items():
            setattr(self, name, nn.Parameter(values.to(device)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        space = self.space
        logits = F.linear(x.float(), self.router) + up_to(self.g, FEW, 0.0, USED, UNUSED)
        gates = route(logits, space.top_k)[1] * (space.alpha / space.r)
        rows = up_to(self.h, 0, LEAK, 1.0, LEAK).flatten() * self.diagonal
        h = F.linear(x, self.a.to(x.dtype)) * (gates.repeat_interleave(space.r, -1) * rows).to(x.dtype)
        return F.linear(h, self.b.to(x.dtype))

    def ranks(self) -> list[int]:
        """Return the rank of each expert in use."""
        n = max(int(self.g.argmax()), FEW)
        return (self.h.argmax(-1)[: n + 1] + 1).tolist()


def mixed_product(
    loss: Callable[[], torch.Tensor],
    weights: Sequence[torch.Tensor],
    arch: Sequence[torch.Tensor],
    vector: Sequence[torch.Tensor],
) -> list[torch.Tensor]:
    """Return d^2 loss / d arch d weights times `vector`, by central differences along it. Weights end as they were."""
    norm = torch.sqrt(sum((v.square().sum() for v in vector), torch.zeros((), device=vector[0].device)))
    step = DIFFERENCE / norm.clamp_min(1e-12)
    sides = []
    saved = [w.detach().clone() for w in weights]
    for sign in (1, -1):
        with torch.no_grad():
            for w, before, v in zip(weights, saved, vector, strict=True):
                w.copy_(before + sign * step * v)
        sides.append(torch.autograd.grad(loss(), list(arch)))
    with torch.no_grad():
        for w, before in zip(weights, saved, strict=True):
            w.copy_(before)
    return [(more - less) / (2 * step) for more, less in zip(*sides, strict=True)]


def search(model: nn.Module, blocks: Mapping[str, nn.Module], batches: Iterable[Batch], space: Space) -> Found:
    """Search on pairs of batches; without one the random start is what is found. The model is left as it was.

    batches: "input_ids", "attention_mask", "labels", (B, S) each. Draws from torch's global generator.
    """
    made = {}
    for name, module in blocks.items():
        device = next(module.parameters()).device
        made[name] = SearchBlock(*block_shape(module), space, device)
    start = {name: block.ranks() for name, block in made.items()}
    before = {name: (int(block.g.argmax()), block.h.argmax(-1)) for name, block in made.items()}
    steps, pending = 0, None
    with ExitStack() as undo:
        undo.enter_context(frozen_for_scoring(model))
        for name, module in blocks.items():
            undo.callback(module.register_forward_hook(_adding(made[name])).remove)
        level = TwoLevels(list(made.values()), space, lambda batch: sample_losses(model, batch, "guilomo").mean())
        for batch in batches:
            if pending is None:
                pending = batch
                continue
            level.step(pending, batch)
            steps, pending = steps + 1, None
    moved = {name: int(before[name][0] != int(block.g.argmax())) for name, block in made.items()}
    rows = sum(int((before[name][1] != block.h.argmax(-1)).sum()) for name, block in made.items())
    facts = {"steps": steps, "blocks": len(made), "moved_experts": sum(moved.values()), "moved_ranks": rows}
    return Found(ranks={name: block.ranks() for name, block in made.items()}, start=start, steps=steps, facts=facts)


def _adding(block: SearchBlock) -> Callable[..., torch.Tensor]:
    def hook(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return output + block(args[0])

    return hook


class TwoLevels:
    """The optimisers of weights and architecture, and a step of both."""

    def __init__(self, blocks: Sequence[nn.Module], space: Space, loss: Callable[[Batch], torch.Tensor]) -> None:
        named = [(name, p) for block in blocks for name, p in block.named_parameters()]
        self.arch = [p for name, p in named if name in ("g", "h")]
        self.weights = [p for name, p in named if name not in ("g", "h")]
        self.loss, self.rate = loss, space.learning_rate
        self.optimizer = torch.optim.AdamW(self.weights, lr=space.learning_rate)
        self.arch_optimizer = torch.optim.Adam(
            self.arch, lr=space.arch_rate, betas=space.arch_betas, weight_decay=space.arch_decay
        )

    def step(self, first: Batch, second: Batch) -> None:
        saved, state = [w.detach().clone() for w in self.weights], copy.deepcopy(self.optimizer.state_dict())
        self._descend(first)
        gradients = torch.autograd.grad(self.loss(second), [*self.arch, *self.weights])
        direct, vector = gradients[: len(self.arch)], gradients[len(self.arch) :]
        with torch.no_grad():
            for w, before in zip(self.weights, saved, strict=True):
                w.copy_(before)
        self.optimizer.load_state_dict(state)
        mixed = mixed_product(lambda: self.loss(first), self.weights, self.arch, vector)
        for p, d, m in zip(self.arch, direct, mixed, strict=True):
            p.grad = d - self.rate * m
        self.arch_optimizer.step()
        self._descend(first)

    def _descend(self, batch: Batch) -> None:
        for w, g in zip(self.weights, torch.autograd.grad(self.loss(batch), self.weights), strict=True):
            w.grad = g
        self.optimizer.step()
