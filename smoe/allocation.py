"""Scores -> experts per block under a budget. Pure Python, so that a table can be recomputed where there is no torch.

Source: LoRA-SMoE (arXiv 2505.06272) and its released code, which gives a block one expert for every task in which its
score lies above a percentile of its group.

Departures: released code / a strict percentile threshold, so that the number of experts is whatever comes out
(`released_votes`). Here / ranks with ties broken by block name, so that any budget can be met exactly; where all scores
of a task differ and the budget is the released total, the two are equal. In a group of n blocks, rank j (from 0)
passes the released threshold p exactly when j / (n - 1) < p / 100: votes are granted in the order of that fraction.
`proportional` is an alternative of ours: shares of the summed, normalised scores by largest remainder. A task's scores
are normalised within each group, to the group's share of the blocks: groups whose scores differ in scale, such as
attention and MLP, would otherwise take from each other what ranking them apart is meant to keep.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from smoe.rules.proportional import largest_remainder, proportional_within, task_weights
from smoe.rules.voting import grant_votes, ranked, vote_order

Scores = Mapping[str, Mapping[str, float]]  # task -> block -> score
Allocation = dict[str, int]  # block -> experts; 0 is no adapter

Grouping = Literal["attention-mlp", "type", "attention", "mlp", "global"]  # blocks that are ranked against each other
Rule = Literal["votes", "proportional"]
GROUPINGS: tuple[str, ...] = get_args(Grouping)
RULES: tuple[str, ...] = get_args(Rule)


class BudgetError(ValueError):
    """The budget cannot be met; the message names the nearest values that can."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much may be given out: exactly one of the three."""

    mean_experts: float | None = None  # over the blocks of the grouping; times their number it must be a whole number
    total_experts: int | None = None
    trainable_params: int | None = None  # adapter parameters, routers included; met to within one expert, from below

    def __post_init__(self) -> None:
        limits = {k: v for k, v in vars(self).items() if v is not None}
        if len(limits) != 1:
            raise BudgetError(f"a budget is exactly one of {', '.join(vars(self))}; given: {limits or 'none'}")
        ((name, value),) = limits.items()
        if not math.isfinite(value) or value <= 0:
            raise BudgetError(f"{name} must be a positive number, got {value!r}")


def block_kind(block: str) -> str:
    """Return "attention" or "mlp": a block under a module with "attn" or "attention" in its name is attention."""
    return "attention" if any("attn" in part or "attention" in part for part in block.lower().split(".")) else "mlp"


def grouped(blocks: Sequence[str], grouping: str) -> dict[str, list[str]]:
    """Split block names into the groups that are ranked apart, names sorted; blocks outside the grouping are absent."""
    label: dict[str, Callable[[str], str | None]] = {
        "global": lambda b: "global",
        "type": lambda b: b.rsplit(".", 1)[-1],
        "attention-mlp": block_kind,
        "attention": lambda b: "attention" if block_kind(b) == "attention" else None,
        "mlp": lambda b: "mlp" if block_kind(b) == "mlp" else None,
    }
    if grouping not in label:
        raise ValueError(f"grouping {grouping!r} is not one of {', '.join(GROUPINGS)}")
    groups: dict[str, list[str]] = {}
    for block in sorted(blocks):
        if (group := label[grouping](block)) is not None:
            groups.setdefault(group, []).append(block)
    if not groups:
        raise ValueError(f"grouping {grouping!r} leaves none of the {len(blocks)} blocks")
    return groups


def block_params(shape: tuple[int, int], experts: int, r: int, share_A: bool = False, router: bool | str = True) -> int:
    """Count the parameters of a block (I, O): E R (I + O) and, above one expert, E I of a trained router.

    router: whether there is one, or its name where it has more than E rows; what blocks share is not counted.
    """
    inputs, outputs = shape
    if experts == 0:
        return 0
    if isinstance(router, str):
        from smoe.routers import router_params  # here, since it needs torch

        rows = router_params(router, experts, inputs)
    else:
        rows = experts * inputs if router and experts > 1 else 0
    return (1 if share_A else experts) * r * inputs + experts * r * outputs + rows


def votes(scores: Scores, passing: int | Mapping[str, int]) -> Allocation:
    """Give a block one expert for every task that ranks it among its `passing` most sensitive.

    passing: a number, with all blocks in one group, or a number for each group of "attention-mlp".
    """
    blocks = _blocks(scores)
    groups = grouped(blocks, "global" if isinstance(passing, int) else "attention-mlp")
    counts: Counter[str] = Counter()
    for task in scores.values():
        for group, members in groups.items():
            counts.update(ranked(task, members)[: passing if isinstance(passing, int) else passing[group]])
    return {block: counts[block] for block in blocks}


def released_votes(scores: Scores, p: float = 60, grouping: str = "attention-mlp") -> Allocation:
    """Apply the released rule literally: one expert per task with score > percentile(group, 100 - p), interpolated."""
    if not 0 <= p <= 100:
        raise ValueError(f"p must lie in [0, 100], got {p}")
    blocks = _blocks(scores)
    result = dict.fromkeys(blocks, 0)
    for task in scores.values():
        for members in grouped(blocks, grouping).values():
            ascending = sorted(task[b] for b in members)
            position = (len(ascending) - 1) * (100 - p) / 100
            low = math.floor(position)
            high = min(low + 1, len(ascending) - 1)
            threshold = ascending[low] + (ascending[high] - ascending[low]) * (position - low)
            for block in members:
                result[block] += task[block] > threshold
    return result


def allocate(
    scores: Scores,
    *,
    budget: Budget,
    rule: str = "votes",
    grouping: str = "attention-mlp",
    min_experts: int = 0,
    max_experts: int | None = None,
    shapes: Mapping[str, tuple[int, int]] | None = None,
    r: int = 8,
    share_A: bool = False,
    router: bool | str = True,
) -> Allocation:
    """Hand out experts to blocks by sensitivity, meeting the budget exactly.

    min_experts, max_experts: bounds for every block of the grouping; blocks outside it get 0. Under "votes" a block
    never gets more than one expert per task (or `min_experts`, where that is more).
    shapes, r, share_A, router: only for a budget in trainable parameters: (in, out) of every block, rank, one A for all
    experts, whether a router is trained, or which. Such a budget is never exceeded; what is left is less than the next
    expert in the order of the rule costs.
    Raises BudgetError naming the nearest possible values. Blocks come back in the order of the scores.
    """
    blocks = _blocks(scores)
    groups = grouped(blocks, grouping)
    inside = sorted(b for members in groups.values() for b in members)
    if rule not in RULES:
        raise ValueError(f"rule {rule!r} is not one of {', '.join(RULES)}")
    if min_experts < 0 or (max_experts is not None and max_experts < max(min_experts, 1)):
        raise ValueError(f"bounds must satisfy 0 <= min <= max and 1 <= max, got {min_experts}..{max_experts}")
    cap = max_experts
    if rule == "votes":
        cap = max(len(scores), min_experts) if max_experts is None else min(max_experts, max(len(scores), min_experts))

    if budget.trainable_params is None:
        total = _total(budget, len(inside), min_experts, cap)
        if rule == "votes":
            experts = grant_votes(scores, groups, min_experts, cap or total, total, None)
        else:
            experts = largest_remainder(task_weights(scores, groups), total, min_experts, cap)
    else:
        if shapes is None or (missing := [b for b in inside if b not in shapes]):
            lacking = "every block" if shapes is None else missing[0]
            raise ValueError(f"a budget in trainable parameters needs shapes of every block (missing: {lacking})")
        sizes = {b: (shapes[b][0], shapes[b][1]) for b in inside}
        experts = _within_params(
            scores,
            groups,
            rule,
            int(budget.trainable_params),
            min_experts,
            cap,
            lambda b, e: block_params(sizes[b], e, r, share_A, router),
        )
    return {block: experts.get(block, 0) for block in blocks}


def load_flat(path: str | Path) -> Allocation:
    """Read the authors' flat JSON, {"model.layers.0.self_attn.v_proj": 8, ...}. Raises ValueError for other files."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # also where the bytes are no text
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict) or not data:
        raise ValueError(f"{path}: expected a JSON object of block: experts")
    for block, experts in data.items():
        if isinstance(experts, bool) or not isinstance(experts, int) or experts < 0:
            raise ValueError(f"{path}: {block}: experts must be a whole number from 0, got {experts!r}")
    return data


def save_flat(path: str | Path, allocation: Mapping[str, int]) -> None:
    """Write the authors' flat JSON."""
    Path(path).write_text(json.dumps(dict(allocation), indent=2) + "\n", encoding="utf-8")


def _blocks(scores: Scores) -> list[str]:
    """Return the blocks in their given order, after checking that every task scores the same ones, finitely."""
    if not scores:
        raise ValueError("no task has scores")
    first = next(iter(scores.values()))
    if not first:
        raise ValueError("no block has a score")
    for task, by_block in scores.items():
        if by_block.keys() != first.keys():
            odd = sorted(by_block.keys() ^ first.keys())[0]
            raise ValueError(f"task {task!r} does not score the same blocks as the others, e.g. {odd}")
        # One comparison catches nan, negative and infinite: this runs over a million scores.
        if not all(0.0 <= value < math.inf for value in by_block.values()):
            block = next(b for b, v in by_block.items() if not 0.0 <= v < math.inf)
            raise ValueError(f"task {task!r}, block {block}: score {by_block[block]} is not a finite number from 0")
    return list(first)


def _total(budget: Budget, blocks: int, low: int, cap: int | None) -> int:
    """Whole experts of a budget in experts, or BudgetError."""
    if budget.total_experts is not None:
        wanted, unit = float(budget.total_experts), 1
    else:
        wanted, unit = float(budget.mean_experts or 0) * blocks, blocks
    total = round(wanted)
    # A mean printed with six digits comes back within this tolerance of the whole number that it stands for.
    if abs(wanted - total) > 1e-6 * max(blocks, 1):
        lowest, highest = max(low * blocks, 1), math.inf if cap is None else cap * blocks
        possible = sorted({min(max(n, lowest), highest) for n in (math.floor(wanted), math.ceil(wanted))})
        near = [f"{n / unit:.6f} ({n} experts)" for n in possible]
        raise BudgetError(f"{wanted:g} experts over {blocks} blocks is not whole; nearest possible: {', '.join(near)}")
    least, most = low * blocks, None if cap is None else cap * blocks
    if total < least or (most is not None and total > most):
        nearest = least if total < least else most
        raise BudgetError(
            f"{total} experts are impossible with {low} to {'any number' if cap is None else cap} in each of {blocks} "
            f"blocks; nearest possible: total {nearest}, mean {(nearest or 0) / blocks:g}"
        )
    return total


def _within_params(
    scores: Scores,
    groups: Mapping[str, list[str]],
    rule: str,
    limit: int,
    low: int,
    cap: int | None,
    params: Callable[[str, int], int],
) -> Allocation:
    """Spend at most `limit` parameters, such that the next expert would exceed it."""
    inside = sorted(b for members in groups.values() for b in members)
    weights = {} if rule == "votes" else task_weights(scores, groups)
    least = sum(params(b, low) for b in inside)
    if low == 0 and rule == "votes":
        least = params(next(vote_order(scores, groups))[0], 1)
    elif low == 0:
        alone = largest_remainder(weights, 1, 0, cap)
        least = params(max(alone, key=alone.__getitem__), 1)
    most = None if cap is None else sum(params(b, cap) for b in inside)
    if limit < least or (most is not None and limit > most):
        raise BudgetError(
            f"{limit} trainable parameters are impossible with {low} to {'any number' if cap is None else cap} experts "
            f"in each of {len(inside)} blocks; nearest possible: {least if limit < least else most}"
        )
    if rule == "votes":
        return grant_votes(scores, groups, low, cap or 0, None, (limit, params))
    return proportional_within(weights, limit, low, cap, params)
