"""The matrix products that a piece of work makes, to be counted in operations and made again by themselves."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.flop_counter import flop_registry

FORMULAS: dict[Any, Callable[..., int]] = {
    **flop_registry,  # type: ignore[dict-item]
    # what torch's own counter leaves out
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: attention_operations(q, k, v),
}


def attention_operations(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> int:
    """Count those of both products of attention; query (B, H, S, D), key (B, _, T, D), value (B, _, T, E)."""
    batch, heads, queries, width = query.shape
    return 2 * batch * heads * queries * key.shape[2] * (width + value.shape[3])


@dataclass(frozen=True)
class Operand:
    """A tensor without its values; where its storage lives on, as a model's weights do, that is found again."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    offset: int = field(compare=False)
    storage: weakref.ref[torch.UntypedStorage] = field(compare=False)

    def weight(self) -> torch.Tensor | None:
        """Return the tensor itself where its storage is still there."""
        storage = self.storage()
        if storage is None:
            return None
        return torch.empty(0, dtype=self.dtype, device=storage.device).set_(
            storage, self.offset, self.shape, self.stride
        )


class Product(NamedTuple):
    """A matrix product, or attention as one operator, by everything that its time depends on."""

    operator: Any
    arguments: tuple[Any, ...]  # leaves of (args, kwargs), tensors as `Operand`
    structure: Any
    operations: int


class Products(TorchDispatchMode):
    """While active, note every product, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Product] = []

    @property
    def operations(self) -> int:
        """Floating-point operations in all products, a multiplication and an addition counting as two."""
        return sum(product.operations for product in self.calls)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = FORMULAS.get(getattr(func, "overloadpacket", None))
        if formula is None:
            if not isinstance(func, torch._ops.OpOverload) or func is torch.ops.prim.device.default:
                return func(*args, **kwargs)
            with self:  # in inference mode composite operators come whole
                out = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if out is NotImplemented else out
        out = func(*args, **kwargs)
        leaves, structure = tree_flatten((args, kwargs))
        named = tuple(_operand(leaf) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves)
        self.calls.append(Product(func, named, structure, int(formula(*args, **kwargs, out_val=out))))
        return out

    def again(self, device: str) -> Callable[[], None]:
        """Return a function that makes all of them once more, in their order.

        Weights are the model's own, so that they come from memory as they do in the work; all else is read from one
        piece of memory for each place and type, as what was just computed is in a cache.
        """
        largest: dict[tuple[int, torch.dtype], int] = {}
        for product in self.calls:
            for place, operand in _operands(product):
                key = place, operand.dtype
                largest[key] = max(largest.get(key, 0), _span(operand))
        memory = {key: _random(size, key[1], device) for key, size in largest.items()}

        def made(product: Product) -> tuple[Any, Any]:
            leaves = list(product.arguments)
            for place, operand in _operands(product):
                if (leaf := operand.weight()) is None:
                    leaf = memory[place, operand.dtype].as_strided(operand.shape, operand.stride)
                leaves[place] = leaf
            args, kwargs = tree_unflatten(leaves, product.structure)
            return args, kwargs

        calls = [(product.operator, *made(product)) for product in self.calls]

        def products() -> None:
            with torch.no_grad():
                for operator, args, kwargs in calls:
                    operator(*args, **kwargs)

        return products


def _operand(tensor: torch.Tensor) -> Operand:
    storage = weakref.ref(tensor.untyped_storage())
    return Operand(tuple(tensor.shape), tensor.stride(), tensor.dtype, int(tensor.storage_offset()), storage)


def _operands(product: Product) -> list[tuple[int, Operand]]:
    return [(place, leaf) for place, leaf in enumerate(product.arguments) if isinstance(leaf, Operand)]


def _span(operand: Operand) -> int:
    """Elements from the first to the last."""
    if math.prod(operand.shape) == 0:
        return 0
    return 1 + sum((n - 1) * step for n, step in zip(operand.shape, operand.stride, strict=True))


def _random(size: int, dtype: torch.dtype, device: str) -> torch.Tensor:
    if dtype.is_floating_point:
        return torch.randn(size, device=device).to(dtype)
    return torch.zeros(size, dtype=dtype, device=device)
