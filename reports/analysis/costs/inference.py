"""What evaluation and serving should cost, counted from shapes as arithmetic.py counts training.

Evaluation by shared prefixes reads a document's context once and makes logits only at positions that predict a choice;
request by request the context is read again for every choice, and logits are made everywhere. Serving writes a token
at a time: every weight is read for it, and the keys and values of all tokens before. A merged adapter is no adapter.
Tests compare operations with torch's own counter, and bytes with the weights and caches of a model.
"""

from __future__ import annotations

from collections.abc import Sequence

from reports.analysis.costs.arithmetic import Adapter, Shape, forward

ADAPTER_BYTES = 4  # of an adapter's parameter: it is kept in fp32


def shared_prefix(shape: Shape, adapter: Adapter, context: int, choices: Sequence[int]) -> float:
    """Operations of scoring choices of so many tokens behind a context of so many, in one pass.

    The last token of a choice is predicted and never read. Attention is counted over the whole row, as it is computed.
    """
    return forward(shape, adapter, context + sum(n - 1 for n in choices), predicted=sum(choices))


def by_request(shape: Shape, adapter: Adapter, context: int, choices: Sequence[int]) -> float:
    """Operations of scoring the same choices in a pass each, with logits at every position; padding left out."""
    return sum(forward(shape, adapter, context + n - 1, predicted=context + n - 1) for n in choices)


def prefill(shape: Shape, adapter: Adapter, tokens: int) -> float:
    """Operations of reading a prompt, with logits at its last position alone."""
    return forward(shape, adapter, tokens, predicted=1)


def decoding(shape: Shape, adapter: Adapter, past: int) -> float:
    """Operations of writing one token after `past` others, whose keys and values are kept."""
    attention = 4.0 * shape.layers * shape.heads * shape.head
    return forward(shape, adapter, 1, predicted=1) + attention * past  # to itself, which `forward` has, and to those


def decoding_bytes(shape: Shape, adapter: Adapter, past: int, rows: int, itemsize: int) -> float:
    """Bytes that are read to write one token in each of `rows` answers after `past` others in each.

    Every weight once, however many rows; the keys and values of each row. The embeddings are a row of their table.
    """
    weights = shape.block_params + shape.vocabulary * shape.width
    return itemsize * weights + ADAPTER_BYTES * adapter.params(shape) + rows * cache_bytes(shape, past, itemsize)


def cache_bytes(shape: Shape, tokens: int, itemsize: int) -> float:
    """Bytes of the keys and values of so many tokens of one answer."""
    return float(2 * shape.layers * shape.kv_heads * shape.head * tokens * itemsize)
