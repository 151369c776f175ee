"""Which weight matrices of a model are blocks, and in which layer they lie: the one answer that all share."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import nn
from transformers.pytorch_utils import Conv1D

# The seven projections of a Llama-style layer, the paper's blocks.
DEFAULT_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ALL_LINEAR = "all-linear"  # PEFT's word: every linear layer but the output head

Targets = Sequence[str] | str | None


def place(block: str) -> tuple[int | None, str]:
    """Return a block's layer and projection: the first number inside its name, and the name's last part.

    The layer is None for a block outside the layers, such as "lm_head".
    """
    *path, projection = block.split(".")
    return next((int(part) for part in path if part.isdigit()), None), projection


def is_block(module: nn.Module) -> bool:
    """Tell whether a module is y = W x (+ b); the quantised linears of bitsandbytes are nn.Linear too."""
    return isinstance(module, (nn.Linear, Conv1D))


def block_shape(module: nn.Module) -> tuple[int, int]:
    """Return (I, O) of a block; GPT-2's Conv1D stores its weight transposed."""
    if isinstance(module, Conv1D):
        return module.weight.shape[0], module.weight.shape[1]
    return module.in_features, module.out_features  # type: ignore[return-value]


def resolve_targets(model: nn.Module, targets: Targets = None) -> tuple[str, ...] | str:
    """Return the targets that were asked for; for None the seven projections, or "all-linear" where one is lacking."""
    if isinstance(targets, str):
        return targets if targets == ALL_LINEAR else (targets,)
    if targets is not None:
        return tuple(targets)
    names = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if is_block(module)}
    return DEFAULT_TARGETS if names.issuperset(DEFAULT_TARGETS) else ALL_LINEAR


def find_blocks(model: nn.Module, target_modules: Targets = None) -> dict[str, nn.Module]:
    """List the blocks of a model by name, in module order.

    target_modules: last parts of names or whole names; "all-linear" for every linear layer but the output head; None
    for the seven Llama projections, or "all-linear" where the model lacks one of them. Under "all-linear" the fused
    expert parameters of a mixture of experts are left out, with a warning that names them.
    Raises ValueError for a target that matches nothing, that is no linear layer (such as fused expert parameters of a
    mixture of experts), or whose weight is tied to another block's.
    """
    targets = resolve_targets(model, target_modules)
    modules = dict(model.named_modules())
    if targets == ALL_LINEAR:
        get_head = getattr(model, "get_output_embeddings", None)
        head = get_head() if get_head else None
        blocks = {name: m for name, m in modules.items() if name and is_block(m) and m is not head}
        if not blocks:
            raise ValueError("the model has no linear layer")
        if fused := [name for name, p in model.named_parameters() if p.ndim == 3]:
            warnings.warn(
                f"fused expert parameters are no linear layers and get no experts: {', '.join(fused)}", stacklevel=2
            )
    else:
        wanted = [name for name in modules if any(_matches(name, t) for t in targets)]
        _refuse_what_is_no_block(model, modules, wanted, targets)
        blocks = {name: modules[name] for name in wanted}
    owners: dict[int, str] = {}
    for name, module in blocks.items():
        if (other := owners.setdefault(id(module.weight), name)) != name:
            raise ValueError(f"blocks {other} and {name} share one weight: tied blocks cannot be told apart")
    return blocks


def block_shapes(model: nn.Module, target_modules: Targets = None) -> dict[str, tuple[int, int]]:
    """Return (in, out) of every block, as `allocate` wants it for a budget in trainable parameters."""
    return {name: block_shape(module) for name, module in find_blocks(model, target_modules).items()}


def _matches(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target)


def _refuse_what_is_no_block(
    model: nn.Module, modules: dict[str, nn.Module], wanted: list[str], targets: Sequence[str]
) -> None:
    for name in wanted:
        if not is_block(modules[name]):
            kind = type(modules[name]).__name__
            raise ValueError(f"{name} is a {kind}, not a linear layer: it cannot get experts")
    for target in targets:
        if any(_matches(name, target) for name in wanted):
            continue
        for name, parameter in model.named_parameters():
            if _matches(name, target):
                shape = tuple(parameter.shape)
                raise ValueError(f"{name} is a parameter of shape {shape}, not a linear layer: it cannot get experts")
        linear = sorted({n.rsplit(".", 1)[-1] for n, m in modules.items() if n and is_block(m)})
        raise ValueError(f"target {target!r} matches no module; linear layers of this model: {', '.join(linear)}")
