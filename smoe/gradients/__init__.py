"""Per-sample gradients of weight blocks without weight gradients: the machinery below `smoe.sensitivity`.

A block's output passes through `_Capture`, which does nothing forward and, backward, hands the block's inputs and
output gradients to whoever takes them. The inputs are saved as autograd saves any tensor, so that gradient
checkpointing recomputes them, and each is dropped as soon as its block is done.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

IGNORED = -100  # the label of a token that is no part of the answer

CheckInputs = Callable[[str, torch.Tensor], None]  # block, inputs (..., I); may raise
TakeTokens = Callable[[str, torch.Tensor, torch.Tensor], None]  # block, inputs (..., I), output gradients (..., O)
TakeGradient = Callable[[str, torch.Tensor], None]  # block, gradient of its weight for one sample


def innermost(model: nn.Module) -> Any:
    """Return the model itself, without what PEFT puts around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


def accepted_names(model: nn.Module) -> set[str]:
    """Names that the innermost model's forward takes."""
    return set(inspect.signature(innermost(model).forward).parameters)


def model_inputs(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, Any]:
    """Return ids and mask, (B, S) each, with the positions of tokens where the model takes them.

    Padding on the left shifts a sequence; positions counted from its first token make that invisible.
    """
    positions = {"position_ids": (mask.long().cumsum(1) - 1).clamp_min(0)}
    taken = {name: value for name, value in positions.items() if name in accepted_names(model)}
    return {"input_ids": ids, "attention_mask": mask, **taken}


def sample_losses(model: nn.Module, batch: Mapping[str, torch.Tensor], where: str) -> torch.Tensor:
    """Return each sample's mean loss over its answer tokens, (B,). Raises ValueError for a sample without an answer.

    Logits are made at the columns that predict an answer token of some sample, where the model can leave out others.
    """
    ids, targets = batch["input_ids"], batch["labels"][:, 1:]
    mask = batch.get("attention_mask")
    mask = torch.ones_like(ids) if mask is None else mask
    answered = targets != IGNORED
    counts = answered.sum(1)
    if (empty := (counts == 0).nonzero()).numel():
        raise ValueError(f"{where}: sample {int(empty[0])} of a batch has no answer token (all labels are {IGNORED})")
    columns = answered.any(0).nonzero().squeeze(1)
    inputs = model_inputs(model, ids, mask)
    accepted = accepted_names(model)
    inputs |= {
        name: value for name, value in {"use_cache": False, "logits_to_keep": columns}.items() if name in accepted
    }
    logits = model(**inputs).logits
    if "logits_to_keep" not in accepted:
        logits = logits[:, columns]
    chosen = answered[:, columns]
    losses = F.cross_entropy(logits[chosen].float(), targets[:, columns][chosen], reduction="none")
    rows = chosen.nonzero()[:, 0]
    return torch.zeros_like(counts, dtype=losses.dtype).index_add(0, rows, losses) / counts


class Grams:
    """Squared Frobenius norms of per-sample gradients; keeps the last X X^T, which q, k, v or gate, up share."""

    def __init__(self) -> None:
        self.x: torch.Tensor | None = None
        self.xx: torch.Tensor | None = None

    def squared_norms(self, x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """||G^T X||_F^2 of each sample, (B,), from x (B, T, I) and g (B, T, O)."""
        tokens, inputs, outputs = x.shape[1], x.shape[2], g.shape[2]
        if tokens * (inputs + outputs) >= inputs * outputs:
            return torch.stack([weight_gradient(xs, gs).square().sum() for xs, gs in zip(x, g, strict=True)])
        if self.x is None or self.xx is None or not _same_memory(self.x, x):
            self.x, self.xx = x, _gram(x)
        return (self.xx * _gram(g)).sum((1, 2)).clamp_min(0)

    def clear(self) -> None:
        self.x = self.xx = None


def weight_gradient(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """G^T X in fp32 (O, I) for one sample's x (T, I) and g (T, O)."""
    return _wide(g).T @ _wide(x)


@contextmanager
def capture_linear_io(blocks: Mapping[str, nn.Module], check_inputs: CheckInputs, take: TakeTokens) -> Iterator[None]:
    """Call `check_inputs` in every forward pass of a block and `take`, with its output gradients, in every backward."""

    def hook_for(name: str) -> Callable[..., torch.Tensor]:
        def hook(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: torch.Tensor
        ) -> torch.Tensor:
            x = args[0] if args else kwargs.get("input", kwargs.get("x"))  # nn.Linear's name for it, and Conv1D's
            if not isinstance(x, torch.Tensor):
                raise ValueError(
                    f"{name} is called with {sorted(kwargs)} only: which of them is its input is not known"
                )
            check_inputs(name, x)
            captured: torch.Tensor = _Capture.apply(output, x, name, take)  # type: ignore[no-untyped-call]
            return captured

        return hook

    handles = [m.register_forward_hook(hook_for(name), with_kwargs=True) for name, m in blocks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def accumulating(blocks: Mapping[str, nn.Module], take: TakeGradient) -> Iterator[None]:
    """Capture gradients the plain way: while active, weights get them, each handed to `take` and dropped."""

    def hook_for(name: str) -> Callable[[torch.Tensor], None]:
        def hook(weight: torch.Tensor) -> None:
            if weight.grad is not None:
                take(name, weight.grad)
            weight.grad = None

        return hook

    handles = []
    for name, module in blocks.items():
        if not module.weight.is_floating_point():  # type: ignore[operator]
            raise ValueError(f"{name} is quantised: it has no weight gradient, use engine 'gram'")
        module.weight.requires_grad_(True)
        handles.append(module.weight.register_post_accumulate_grad_hook(hook_for(name)))  # type: ignore[operator]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def frozen_for_scoring(model: nn.Module) -> Iterator[None]:
    """Freeze all weights, switch dropout off and let the embedding's output require grad; undo all of it at the end."""
    requires_grad = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    training = [(m, m.training) for m in model.modules()]

    def ask_for_gradient(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        return output.requires_grad_(True) if output.is_leaf else output

    with ExitStack() as undo:
        undo.callback(_restore, requires_grad, training)
        model.eval()
        for module in model.modules():
            # Checkpointed layers look at their own flag only; without it a model that trains in the memory there is
            # could not be scored in it.
            if getattr(module, "gradient_checkpointing", False) and not _has_own_dropout(module):
                module.training = True
        for parameter, _, _ in requires_grad:
            parameter.requires_grad_(False)
            parameter.grad = None
        undo.callback(model.get_input_embeddings().register_forward_hook(ask_for_gradient).remove)  # type: ignore
        yield


class _Capture(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: torch.Tensor, x: torch.Tensor, block: str, take: TakeTokens) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.block, ctx.take = block, take
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        ctx.take(ctx.block, ctx.saved_tensors[0].detach(), grads[0])
        return grads[0], None, None, None


def _restore(
    parameters: list[tuple[nn.Parameter, bool, torch.Tensor | None]], modules: list[tuple[nn.Module, bool]]
) -> None:
    for parameter, requires_grad, grad in parameters:
        parameter.requires_grad_(requires_grad)
        parameter.grad = grad
    for module, training in modules:
        module.training = training


def _has_own_dropout(module: nn.Module) -> bool:
    return any(isinstance(v, float) and v > 0 for k, v in vars(module).items() if "dropout" in k)


def _wide(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _gram(x: torch.Tensor) -> torch.Tensor:
    x = _wide(x)
    return torch.bmm(x, x.transpose(1, 2))


def _same_memory(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride() and a.dtype == b.dtype
