"""What training with adapters should cost, counted from shapes: multiply-adds of every matrix product, and bytes.

A product of (T, I) and (I, O) is 2 T I O operations. Forward, every block makes one with its weight, two with its
adapter; attention makes two of (S, S) for each head. Backward, a frozen weight passes the gradient to its input (one
product more, none for the first layer's q, k, v, whose input is not trained), an adapter to its weights and its input
(two more each). Norms, activations and the router's softmax are left out: they are no matrix products.

Bytes of a training step: what lies there whatever the batch, and what the forward pass keeps for the backward pass,
with eager attention. Tests compare operations with torch's own counter, and bytes with the tensors that autograd saves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from results.names import place
from results.record import Record

ANSWER_TOKENS = 4  # of a synthetic document
SHARED_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))  # blocks that read the same vectors
TOLERANCE = 0.01  # AdaLoRA has a number for each rank besides; a matrix A that experts share is far outside
TRAINED_BYTES = 16  # of a trained parameter in fp32: itself, its gradient, and Adam's two moments


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The dimensions of a Llama-style model."""

    layers: int
    width: int
    mlp: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """(in, out) of the blocks of a layer."""
        w, q, kv = self.width, self.heads * self.head, self.kv_heads * self.head
        return {
            "q_proj": (w, q), "k_proj": (w, kv), "v_proj": (w, kv), "o_proj": (q, w),
            "gate_proj": (w, self.mlp), "up_proj": (w, self.mlp), "down_proj": (self.mlp, w),
        }  # fmt: skip

    @property
    def block_params(self) -> int:
        return self.layers * sum(i * o for i, o in self.projections.values())


@dataclass(frozen=True)
class Adapter:
    """Columns of the low-rank product of every block, and of its router: {(layer, projection): (rank, router)}."""

    columns: Mapping[tuple[int, str], tuple[int, int]]

    def params(self, shape: Shape) -> int:
        total = 0
        for (_, projection), (rank, router) in self.columns.items():
            i, o = shape.projections[projection]
            total += rank * (i + o) + router * i
        return total


def uniform(shape: Shape, rank: int, experts: int = 1) -> Adapter:
    """Return the same number of experts of one rank in every block; one expert has no router."""
    each = (rank * experts, experts if experts > 1 else 0)
    return Adapter({(layer, name): each for layer in range(shape.layers) for name in shape.projections})


def adapter_of(record: Record) -> Adapter | None:
    """Return the adapter that a record trained; None where its hyperparameters do not tell, or tell of another size."""
    adapter = _told(record)
    trained = record.parameters.trainable if record.parameters else 0
    fits = adapter is not None and abs(adapter.params(shape_of(record)) - trained) <= TOLERANCE * trained
    return adapter if fits else None


def _told(record: Record) -> Adapter | None:
    shape, values = shape_of(record), record.spec.hyperparameters
    if experts := record.facts.get("experts"):
        columns = {}
        for block, count in experts.items():
            layer, projection = place(block)
            if layer is None or projection not in shape.projections:
                return None
            columns[layer, projection] = (count * values["r"], count if count > 1 else 0)
        return Adapter(columns)
    if not record.parameters or not record.parameters.trainable:
        return Adapter({})
    rank = values.get("init_r", values.get("r"))
    return None if rank is None else uniform(shape, rank)


def shape_of(record: Record) -> Shape:
    """Return the dimensions of the record's model."""
    return Shape(**record.facts["shape"])


def forward(shape: Shape, adapter: Adapter, tokens: int, predicted: int) -> float:
    """Operations of a document of so many tokens; predicted: positions whose logits are made."""
    return sum(_forward(shape, adapter, tokens)) + 2.0 * predicted * shape.width * shape.vocabulary


def backward(shape: Shape, adapter: Adapter, tokens: int, predicted: int, inputs: bool = False) -> float:
    """Operations of the gradients of the adapter; inputs: of the embeddings' output, too, as scoring takes them."""
    operations = 2.0 * predicted * shape.width * shape.vocabulary
    for layer, name, i, o in _blocks(shape):
        rank, router = adapter.columns.get((layer, name), (0, 0))
        first = layer == 0 and name in SHARED_INPUT[0] and not inputs
        operations += 2.0 * tokens * ((0 if first else i * o) + 2 * rank * (i + o) + 2 * router * i)
        operations -= 2.0 * tokens * (rank + router) * i if first else 0
    return operations + 2 * _attention(shape, tokens)


def training(shape: Shape, adapter: Adapter, tokens: int) -> float:
    """Operations of a training step on one document."""
    predicted = ANSWER_TOKENS + 1
    return forward(shape, adapter, tokens, predicted) + backward(shape, adapter, tokens, predicted)


def scoring(shape: Shape, tokens: int) -> float:
    """Operations of LoRA-SMoE's sensitivity on one document: both passes without an adapter, and every block's norm.

    ||G^T X||^2 is made from the two Gram matrices (T, T) where that is cheaper than the gradient itself.
    """
    bare = Adapter({})
    operations = forward(shape, bare, tokens, ANSWER_TOKENS) + backward(shape, bare, tokens, ANSWER_TOKENS, inputs=True)
    for _ in range(shape.layers):
        seen: set[str] = set()
        for name, (i, o) in shape.projections.items():
            if tokens * (i + o) >= i * o:
                operations += 2.0 * tokens * i * o
                continue
            group = next((g[0] for g in SHARED_INPUT if name in g), name)
            operations += 2.0 * tokens * tokens * (o + (i if group not in seen else 0))
            seen.add(group)
    return operations


def static_bytes(shape: Shape, adapter: Adapter, itemsize: int) -> float:
    """Bytes that lie there whatever the batch: the frozen weights, and what training keeps of every trained one."""
    embeddings = 2 * shape.vocabulary * shape.width
    return itemsize * (shape.block_params + embeddings) + TRAINED_BYTES * adapter.params(shape)


def kept_bytes(shape: Shape, adapter: Adapter, tokens: int, rows: int, itemsize: int = 4) -> float:
    """Bytes that the forward pass over `rows` documents keeps for the backward pass; at their peak they are all there.

    Of a layer and token: the input of both norms and what they give to adapters (4 width), query, key, value and output
    of every head (4 heads), a row of each head's probabilities (tokens), and the MLP's gate, its activation, up and
    their product (4 mlp). Of an adapter: its low-rank product; with a router it is there twice, since gates scale it.
    """
    heads = shape.heads * shape.head
    each = shape.layers * (4 * (shape.width + heads + shape.mlp) + shape.heads * tokens) + 2 * shape.width
    each += sum(2 * (rank + router) if router else rank for rank, router in adapter.columns.values())
    return float(itemsize * rows * (tokens * each + (ANSWER_TOKENS + 1) * shape.vocabulary))


def expected_bytes(record: Record) -> float | None:
    """Bytes of training beyond the loaded model; None where its adapter is not known, or nothing is trained."""
    adapter = adapter_of(record)
    if adapter is None or not adapter.columns:
        return None
    shape, spec = shape_of(record), record.spec
    itemsize = 4 if spec.dtype == "float32" else 2
    kept = kept_bytes(shape, adapter, spec.max_length, spec.batch_size, itemsize)
    return TRAINED_BYTES * adapter.params(shape) + kept


def expected(record: Record) -> dict[str, float] | None:
    """Operations of each phase of a record, or None where its adapter is not known."""
    adapter, spec = adapter_of(record), record.spec
    if adapter is None:
        return None
    shape, length = shape_of(record), spec.max_length
    predicted = ANSWER_TOKENS + 1
    documents: Any = {phase: (cost.tokens or 0) / length for phase, cost in record.costs.items()}
    scored = len(spec.tasks) * spec.probe_documents if "sensitivity" in record.facts else 0
    return {
        "allocate": scored * scoring(shape, length),
        "train": documents.get("train", 0) * training(shape, adapter, length),
        "evaluate": documents.get("evaluate", 0) * forward(shape, adapter, length, predicted),
    }


def _forward(shape: Shape, adapter: Adapter, tokens: int) -> Iterator[float]:
    for layer, name, i, o in _blocks(shape):
        rank, router = adapter.columns.get((layer, name), (0, 0))
        yield 2.0 * tokens * (i * o + rank * (i + o) + router * i)
    yield _attention(shape, tokens)


def _attention(shape: Shape, tokens: int) -> float:
    return 4.0 * shape.layers * tokens * tokens * shape.heads * shape.head


def _blocks(shape: Shape) -> Iterator[tuple[int, str, int, int]]:
    for layer in range(shape.layers):
        for name, (i, o) in shape.projections.items():
            yield layer, name, i, o
