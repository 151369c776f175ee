"""Training examples come from the evaluation task itself: (context, continuation) -> tokens, loss on the continuation.

Prompts are then written once, in lm-eval, and any lm-eval task with training documents is trainable. Tokens are made
and split as in evaluation (smoe/tokens.py), for answers that are scored and for those that are written.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smoe.tokens import scored_tokens, written_tokens


@dataclass(frozen=True)
class Example:
    """One tokenised training document."""

    task: str
    ids: tuple[int, ...]  # context, then answer
    answer_tokens: int
    truncated: bool


def encode(
    tokenizer: Any, task: str, context: str, continuation: str, max_length: int, written: bool = False
) -> Example:
    """Tokenise one pair, cut to `max_length` tokens behind the prefix tokens but never into the answer.

    written: whether evaluation lets the model write the answer, and does not score one that is there. Raises ValueError
    naming the task where the answer is empty (one that is written may be: what is trained is to end at once), or too
    long beside the prefix (one token at least).
    """
    if not written and continuation and not continuation.strip():
        raise ValueError(f"task {task}: an answer of white space alone; the document: {context[-60:]!r}")
    try:
        tokens = (written_tokens if written else scored_tokens)(tokenizer, context, continuation)
        ids = tokens.cut(max_length)
    except ValueError as error:
        raise ValueError(f"task {task}: {error} (--max-length); the answer: {continuation[:60]!r}") from error
    return Example(task, ids, len(tokens.answer), len(tokens) > max_length)


def shares(sizes: Mapping[str, int], total: int | None, task_shares: str) -> dict[str, int]:
    """Share out documents over tasks of `total` in all; None takes everything.

    "proportional" follows the sizes, by largest remainder. "temperature:T" follows size^(1/T), so 1 is proportional and
    a large T nearly equal. "equal" gives every task the same. What a small task cannot give is shared among the others.
    Ties go by name. Raises ValueError for other shares.
    """
    temperature = _temperature(task_shares)
    if total is None or total >= sum(sizes.values()):
        return dict(sizes)
    if temperature is not None:
        return _weighted(sizes, total, {t: n ** (1 / temperature) for t, n in sizes.items()})
    result = dict.fromkeys(sizes, 0)
    while left := total - sum(result.values()):
        open_tasks = sorted((t for t in sizes if result[t] < sizes[t]), key=lambda t: (result[t], t))
        each, extra = divmod(left, len(open_tasks))
        for i, t in enumerate(open_tasks):
            result[t] += min(sizes[t] - result[t], each + (i < extra))
    return result


def _temperature(task_shares: str) -> float | None:
    """1 for "proportional", T for "temperature:T", None for "equal". Raises ValueError for anything else."""
    if task_shares in ("equal", "proportional"):
        return None if task_shares == "equal" else 1.0
    word, _, number = task_shares.partition(":")
    try:
        temperature = float(number) if word == "temperature" else math.nan
    except ValueError:
        temperature = math.nan
    if not 1 <= temperature < math.inf:
        raise ValueError(
            f"task_shares {task_shares!r} is not one of: equal, proportional, temperature:T with T of 1 or more"
        )
    return temperature


def _weighted(sizes: Mapping[str, int], total: int, weights: Mapping[str, float]) -> dict[str, int]:
    """`total` in proportion to the weights, by largest remainder, no task above its size."""
    full: set[str] = set()
    while True:  # a task that would get more than it has gives all it has, and the others share the rest
        left = total - sum(sizes[t] for t in full)
        whole = sum(w for t, w in weights.items() if t not in full)
        exact = {t: sizes[t] if t in full else left * w / whole for t, w in weights.items()}
        over = {t for t in exact if t not in full and exact[t] > sizes[t]}
        if not over:
            break
        full |= over
    result = {t: int(x) for t, x in exact.items()}
    for t in sorted(exact, key=lambda t: (result[t] - exact[t], t))[: total - sum(result.values())]:
        result[t] += 1
    return result


def sample_documents(items: Sequence[Any], count: int, seed: int, name: str) -> list[Any]:
    """Return `count` items, the same on every machine for a seed and name; a larger count contains a smaller one."""
    order = list(range(len(items)))
    random.Random(f"{seed}/{name}").shuffle(order)
    return [items[i] for i in order[:count]]
