"""Which blocks are trained: decided once, for all methods of a run, before any job.

Libraries disagree about what a name means: PEFT takes what matches and leaves the rest without a word, and each of its
tuners knows other kinds of layer. So the plan finds the blocks (`smoe.find_blocks`) and every method is given their
whole names. They are on record (`Record.trained_blocks`), and no table holds rows that trained different ones.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from baselines.method import Attached, Method
from baselines.sizes import Shapes
from smoe import DEFAULT_TARGETS, block_shapes, find_blocks, left_out
from smoe.blocks import ALL_LINEAR

FIELD = "target_modules"  # of a method that trains blocks
OPTION = "--target-modules"
Targets = str | tuple[str, ...] | None  # as in `RunSpec.targets`
SHOWN = 6  # names that a message says


def parse_targets(text: str | None) -> Targets:
    """Return the targets of a text like "q_proj,v_proj" or "all-linear". Raises ValueError for an empty name."""
    if text is None or text == ALL_LINEAR:
        return text
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or ALL_LINEAR in names:
        raise ValueError(f"target_modules {text!r}: expected names of blocks like q_proj,v_proj, or {ALL_LINEAR}")
    return names


def chosen(model: torch.nn.Module, method: Method, targets: Targets) -> tuple[str, ...] | None:
    """Return the whole names of the blocks that the method may train; None for one that does not work by blocks.

    model: the base, with or without weights. targets: what was asked for all methods. A method's own `target_modules`
    hold for it alone. Raises ValueError where both are given, for a target that is none, and where nobody chose and the
    model has further weight matrices that would be left out.
    """
    own = getattr(method, FIELD, None)
    if own is None:
        return None
    asked: Any = targets
    if tuple(own) != DEFAULT_TARGETS:
        if targets is not None:
            raise ValueError(
                f"{method.name}:{FIELD}={'+'.join(own)} and {OPTION} both choose what is trained; leave one out"
            )
        asked = own
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is left out is refused below, or on record
            blocks = tuple(find_blocks(model, asked))
    except ValueError as error:
        raise ValueError(f"{method.name}: {error}; choose others with {OPTION}") from error
    if asked is None and (rest := left_out(model, blocks)):
        raise ValueError(
            f"{method.name} would train {len(blocks)} blocks of this model and leave out {shown(rest)}; "
            f"say what all methods train: {OPTION} {ALL_LINEAR} for every linear layer, or names of blocks like "
            f"{OPTION} {','.join(sorted({block.rsplit('.', 1)[-1] for block in blocks}))}"
        )
    return blocks


def shapes(model: torch.nn.Module, method: Method, targets: Targets) -> Shapes:
    """(in, out) of the blocks that the method may train, none where it does not work by blocks; as `chosen`."""
    return block_shapes(model, blocks) if (blocks := chosen(model, method, targets)) is not None else {}


def with_blocks(method: Method, blocks: Sequence[str] | None) -> Method:
    """Return the method with these blocks in the place of its targets; as it is for None."""
    return method if blocks is None else dataclasses.replace(method, **{FIELD: tuple(blocks)})  # type: ignore[arg-type]


def facts(model: torch.nn.Module, blocks: Sequence[str] | None) -> dict[str, Any]:
    """Name the base's weight matrices that are left out, for the record; empty where there are none."""
    rest = () if blocks is None else left_out(model, blocks)
    return {"left_out": list(rest)} if rest else {}


def check_trained(method: Method, model: Attached, blocks: Sequence[str] | None) -> None:
    """Raise ValueError where the attached model trains anything beside its blocks, or leaves one of them out.

    A block that an allocation gave no expert or no rank is left out on purpose; the allocation is on record.
    """
    if blocks is None:
        return
    outside, met = [], set()
    names = set(blocks)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.startswith("base_model.") and not name.startswith("base_model.model."):
            continue  # of the tuner itself, which its blocks share
        parts = name.removeprefix("base_model.model.").split(".")
        block = next((b for i in range(1, len(parts) + 1) if (b := ".".join(parts[:i])) in names), None)
        if block is None:
            outside.append(name)
        else:
            met.add(block)
    if outside:
        raise ValueError(f"{method.name} trains {shown(outside)}, which is none of its {len(blocks)} blocks")
    allocation = getattr(model, "allocation_facts", {})
    allotted = allocation.get("experts", allocation.get("ranks", dict.fromkeys(blocks, 1)))
    if missing := [block for block in blocks if allotted.get(block) and block not in met]:
        raise ValueError(f"{method.name} does not train {shown(missing)}, which the plan gave it")


def shown(names: Sequence[str]) -> str:
    """Say names, the first few of many."""
    few = ", ".join(names[:SHOWN])
    return few if len(names) <= SHOWN else f"{few} and {len(names) - SHOWN} more"
