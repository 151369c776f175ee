"""How large a method becomes: the arithmetic behind `--match`, which makes methods equal in parameters or experts.

Sizes are counted from block shapes alone, before any weight is loaded, so that a request that cannot be met is refused
before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

Shapes = Mapping[str, tuple[int, int]]  # block -> (in, out)

TOLERANCE = 0.02  # of the target: the largest deviation that still counts as equal


def own_shapes(shapes: Shapes, target_modules: Sequence[str]) -> Shapes:
    """Return those blocks that a method's `target_modules` name. Raises ValueError for none."""
    targets = {b: s for b, s in shapes.items() if any(b == t or b.endswith("." + t) for t in target_modules)}
    if not targets:
        raise ValueError(f"none of the model's {len(shapes)} blocks is a target: {', '.join(target_modules)}")
    return targets


def nearest_rank(params: Callable[[int], int], target: int) -> int:
    """Return the rank from 1 whose size is nearest to `target`; `params` grows with the rank until it stays."""
    high = 1
    while params(high) < target and params(2 * high) > params(high):
        high *= 2
    low = high // 2 or 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if params(middle) < target else (low, middle)
    return min((low, high), key=lambda r: (abs(params(r) - target), r))


def residual(params: int, target: int) -> float:
    """Return the deviation as a share of the target; negative: too small."""
    return params / target - 1


def require_within(name: str, setting: str, params: int, target: int) -> None:
    """Raise ValueError, naming the nearest setting, unless its size is within the tolerance."""
    if abs(off := residual(params, target)) > TOLERANCE:
        raise ValueError(
            f"{name} cannot have {target:,} trainable parameters within {TOLERANCE:.0%}; nearest possible: {setting} "
            f"with {params:,} ({off:+.1%})"
        )
