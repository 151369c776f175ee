"""Which weight matrices of a model are blocks, and in which layer they lie: the one answer that all share."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from typing import cast

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from transformers.pytorch_utils import Conv1D

# The seven projections of a Llama-style layer, the paper's blocks.
DEFAULT_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ALL_LINEAR = "all-linear"  # PEFT's word: every linear layer but the output head
EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")  # in configurations

Targets = Sequence[str] | str | None


def place(block: str) -> tuple[int | None, str]:
    """Return a block's layer and projection: the first number inside its name, and the name's last part.

    The layer is None for a block outside the layers, such as "lm_head".
    """
    *path, projection = block.split(".")
    return next((int(part) for part in path if part.isdigit()), None), projection


def is_block(module: nn.Module) -> bool:
    """Tell whether a module is y = W x (+ b): a subclass of nn.Linear that computes something else (a router) is none.

    The quantised linears of bitsandbytes have a forward of their own and are blocks.
    """
    if isinstance(module, Conv1D):
        return True
    kind = type(module)
    plain = isinstance(module, nn.Linear) and kind.forward is nn.Linear.forward
    return plain or (isinstance(module, nn.Linear) and kind.__module__.startswith("bitsandbytes"))


def block_shape(module: nn.Module) -> tuple[int, int]:
    """Return (I, O) of a block; GPT-2's Conv1D stores its weight transposed."""
    if isinstance(module, Conv1D):
        return module.weight.shape[0], module.weight.shape[1]
    return module.in_features, module.out_features  # type: ignore[return-value]


def block_weight(module: nn.Module) -> torch.Tensor:
    """Return the weight (O, I) of a block, detached. Raises ValueError for one that is packed."""
    weight = cast(torch.Tensor, module.weight).detach()
    if not weight.is_floating_point():
        raise ValueError(f"its weight is packed ({weight.dtype}), and its numbers are needed: leave --quantize out")
    return weight.T if isinstance(module, Conv1D) else weight


def resolve_targets(model: nn.Module, targets: Targets = None) -> tuple[str, ...] | str:
    """Return the targets that were asked for; for None the seven projections, or "all-linear" where one is lacking."""
    if isinstance(targets, str):
        return targets if targets == ALL_LINEAR else (targets,)
    if targets is not None:
        return ALL_LINEAR if tuple(targets) == (ALL_LINEAR,) else tuple(targets)
    names = {name.rsplit(".", 1)[-1] for name, module in _of_text(model).items() if is_block(module)}
    return DEFAULT_TARGETS if names.issuperset(DEFAULT_TARGETS) else ALL_LINEAR


def find_blocks(model: nn.Module, target_modules: Targets = None) -> dict[str, nn.Module]:
    """List the blocks of a model by name, in module order; of a model with vision, those of its language model.

    target_modules: last parts of names or whole names; "all-linear" for every linear layer but the output head, routers
    and outputs of width 1; None for the seven Llama projections, or "all-linear" where the model lacks one of them.
    Under "all-linear" the fused expert parameters of a mixture of experts are left out, with a warning that names them.
    Raises ValueError for a target that matches nothing, that is no linear layer (such as fused expert parameters of a
    mixture of experts), or whose weight is tied to another block's.
    """
    targets = resolve_targets(model, target_modules)
    if targets == ALL_LINEAR:
        blocks = _linear_layers(model)
        if not blocks:
            raise ValueError("the model has no linear layer")
        if fused := fused_experts(model):
            warnings.warn(
                f"fused expert parameters are no linear layers and get no experts: {', '.join(fused)}", stacklevel=2
            )
    else:
        everything, of_text = dict(model.named_modules()), _of_text(model)
        wanted = [name for name in everything if name in targets or (name in of_text and _named(name, targets))]
        _refuse_what_is_no_block(model, everything, wanted, targets)
        blocks = {name: everything[name] for name in wanted}
    owners: dict[int, str] = {}
    for name, module in blocks.items():
        if (other := owners.setdefault(id(module.weight), name)) != name:
            raise ValueError(f"blocks {other} and {name} share one weight: tied blocks cannot be told apart")
    return blocks


def left_out(model: nn.Module, blocks: Collection[str]) -> tuple[str, ...]:
    """Name the weight matrices that are not among `blocks`: linear layers as of "all-linear", and fused experts."""
    return (*(name for name in _linear_layers(model) if name not in blocks), *fused_experts(model))


def fused_experts(model: nn.Module) -> tuple[str, ...]:
    """Name the parameters (E, ., .) that hold the weights of all experts of a mixture, which no linear layer does."""
    return tuple(
        f"{name}.{own}"
        for name, module in _of_text(model).items()
        if not isinstance(module, _ConvNd)
        for own, parameter in module.named_parameters(recurse=False)
        if parameter.ndim == 3
    )


def _linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Every block of the language model but the output head, routers and outputs of width 1."""
    get_head = getattr(model, "get_output_embeddings", None)
    head = get_head() if get_head else None
    return {
        name: module
        for name, module in _of_text(model).items()
        if name and is_block(module) and module is not head and not _is_router(model, name, module)
    }


def _of_text(model: nn.Module) -> dict[str, nn.Module]:
    """Modules of the language model by name; all of them where there is nothing else."""
    modules = dict(model.named_modules())
    get_decoder = getattr(model, "get_decoder", None)
    decoder = get_decoder() if get_decoder else None
    path = next((name for name, module in modules.items() if module is decoder and name), None)
    if path is None:
        return modules
    return {name: module for name, module in modules.items() if name == path or name.startswith(path + ".")}


def _is_router(model: nn.Module, name: str, module: nn.Module) -> bool:
    width = block_shape(module)[1]
    config = getattr(model, "config", None)
    get_text = getattr(config, "get_text_config", None)  # of a model with vision, the language model's
    text = get_text() if get_text else config
    counts = {getattr(text, field, None) for field in EXPERT_COUNTS} - {None}
    return width == 1 or (name.rsplit(".", 1)[-1] in ("gate", "router") and width in counts)


def block_shapes(model: nn.Module, target_modules: Targets = None) -> dict[str, tuple[int, int]]:
    """Return (in, out) of every block, as `allocate` wants it for a budget in trainable parameters."""
    return {name: block_shape(module) for name, module in find_blocks(model, target_modules).items()}


def _matches(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target)


def _named(name: str, targets: Sequence[str]) -> bool:
    return any(_matches(name, target) for target in targets)


def _refuse_what_is_no_block(
    model: nn.Module, modules: dict[str, nn.Module], wanted: list[str], targets: Sequence[str]
) -> None:
    for name in wanted:
        if not is_block(modules[name]):
            kind = type(modules[name]).__name__
            raise ValueError(f"{name} is a {kind}, not a linear layer: it cannot get experts")
    for target in targets:
        if target in modules or any(_matches(name, target) for name in wanted):
            continue
        for name, parameter in model.named_parameters():
            if _matches(name, target):
                shape = tuple(parameter.shape)
                raise ValueError(f"{name} is a parameter of shape {shape}, not a linear layer: it cannot get experts")
        linear = sorted({n.rsplit(".", 1)[-1] for n in _linear_layers(model)})
        raise ValueError(f"target {target!r} matches no module; linear layers of this model: {', '.join(linear)}")
