"""`--match`: the same trainable parameters, or the same number of experts, for every method of a run.

The target is LoRA-SMoE's default budget on the run's model: four experts of rank 8 in every block, routers included,
which is what MoLoRA has as it stands. Each method finds its own size (`Method.matched`, `Method.matched_experts`) while
the run is planned, LoRA-SMoE among them. The job then counts what was attached, records how far off it is, and refuses
above 2% in parameters or at any difference in experts; a tuner of PEFT's that cannot have the size stands "as
published", with its deviation on record. A method without an adapter has no size and runs as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from baselines.method import Attached, Method
from baselines.methods.molora import MoLora
from baselines.sizes import TOLERANCE, Shapes, residual
from benchmarks.plan import blocks
from smoe import block_params, block_shapes, experts_per_block

REFERENCE = MoLora()  # LoRA-SMoE's default budget, spread evenly


def shapes_of(model: torch.nn.Module) -> Shapes:
    """(in, out) of every linear block but the head; the model may lie on the "meta" device."""
    return block_shapes(model, "all-linear")


def target(match: str, shapes: Shapes) -> int:
    """Trainable parameters ("params") or experts over all blocks ("experts") that every method is to have.

    shapes: of the blocks that the run trains.
    """
    if match == "experts":
        return REFERENCE.num_experts * len(shapes)
    return sum(block_params(shape, REFERENCE.num_experts, REFERENCE.r) for shape in shapes.values())


def reference_shapes(model: torch.nn.Module, targets: blocks.Targets) -> Shapes:
    """(in, out) of the blocks that the run trains, those of the reference; targets as in `blocks.chosen`."""
    return block_shapes(model, blocks.chosen(model, REFERENCE, targets))


def sized(methods: Sequence[Method], match: str, shapes: Shapes) -> list[Method]:
    """Return the methods at the size that `match` asks for. Raises ValueError for one that cannot have it.

    shapes: of the blocks that the run trains.
    """
    wanted = target(match, shapes)
    made = [m.matched(wanted, shapes) if match == "params" else m.matched_experts(wanted, shapes) for m in methods]
    for i, method in enumerate(made):
        if method in made[:i]:
            raise ValueError(f"with --match {match} two entries of --methods become the same: {method}")
    return made


def sized_for(methods: Sequence[Method], match: str, model: torch.nn.Module, targets: blocks.Targets) -> list[Method]:
    """Return `sized` methods for a model; targets as in `blocks.chosen`, to which the methods' own names are left."""
    given = [blocks.with_blocks(m, blocks.chosen(model, m, targets)) for m in methods]
    made = sized(given, match, reference_shapes(model, targets))
    return [blocks.with_blocks(m, getattr(asked, blocks.FIELD, None)) for m, asked in zip(made, methods, strict=True)]


def achieved(match: str, method: Method, model: Attached, shapes: Shapes) -> dict[str, Any]:
    """Facts on how near the attached model is to the target; empty where nothing is matched.

    shapes: of the blocks that the run trains, before anything was attached. Raises ValueError where it is too far off.
    """
    if match == "none" or method.trains_base:
        return {}
    wanted = target(match, shapes)
    if match == "experts":
        by_block = experts_per_block(model).values()
        if max(by_block, default=0) < 2:
            return {}  # LoRA, in whichever layer: it has no experts to match
        if (experts := sum(by_block)) != wanted:
            raise ValueError(f"{method.name} has {experts} experts, not {wanted}: --match experts refuses it")
        return {"match": {"target_experts": wanted, "experts": experts}}
    params = method.matched_params(model)
    if not params:
        return {}
    off = residual(params, wanted)
    if abs(off) > TOLERANCE and not method.keeps_its_size:
        raise ValueError(
            f"{method.name} has {params:,} trainable parameters, {off:+.1%} off the target of {wanted:,}: "
            f"--match params refuses more than {TOLERANCE:.0%}; --match none leaves every method as it is"
        )
    facts = {"target_params": wanted, "trainable_params": params, "residual": off}
    return {"match": facts if abs(off) <= TOLERANCE else {**facts, "as_published": True}}
