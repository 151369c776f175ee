"""Log-likelihoods of continuations by one pass a document: what its requests have in common is read once.

The requests of a document are one row, [common prefix, rest of request 1, rest of request 2, ...]: every rest sees the
prefix and itself, and its positions go on where the prefix ends, so that each is scored as if it stood alone. Logits
are made at the positions that predict a continuation and nowhere else. Rows of similar length go through the model
together, the longest first, as many as `budget` tokens hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from smoe.gradients import accepted_names, innermost

LEAST_SAVING = 0.25  # of a request's tokens, for it to join the row before it
CHUNK = 256  # positions whose logits are turned to float32 at once
CHECKED_PREFIX, CHECKED_REST = 12, 5  # tokens of the row on which a model is tried
# Largest rms difference of the logits, over their own spread, that rounding explains; a wrong mask gives some 0.1 or 1.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 5e-2}

Request = tuple[Sequence[int], Sequence[int]]  # tokens of the context, tokens of the continuation


@dataclass
class Row:
    """Requests with a common prefix."""

    inputs: list[tuple[int, ...]]  # what the model reads of each distinct request
    prefix: int  # tokens that all of them begin with

    @property
    def width(self) -> int:
        return self.prefix + sum(len(ids) - self.prefix for ids in self.inputs)

    def columns(self, index: int, last: int) -> list[int]:
        """Return where the last tokens of an input stand in the row."""
        before = sum(len(ids) - self.prefix for ids in self.inputs[:index])
        size = len(self.inputs[index])
        return [place if place < self.prefix else place + before for place in range(size - last, size)]


@dataclass(frozen=True)
class Target:
    """Where a request's continuation is predicted: at the last `len(tokens)` positions of an input of a row."""

    row: int
    index: int  # of the input in the row
    tokens: tuple[int, ...]  # of the continuation


def rows_of(requests: Sequence[Request], max_length: int) -> tuple[list[Row], list[Target]]:
    """Put successive requests into rows; returns these and the place of each request.

    A request that is longer than `max_length` + 1 tokens loses tokens on the left, as in lm-eval.
    """
    rows: list[Row] = []
    targets = []
    for context, continuation in requests:
        ids = (*context, *continuation)[-(max_length + 1) :][:-1]
        if not rows or not _joins(rows[-1], ids):
            rows.append(Row([ids], len(ids)))
        row = rows[-1]
        row.prefix = min(row.prefix, _common(row.inputs[0], ids))
        if ids not in row.inputs:
            row.inputs.append(ids)
        targets.append(Target(len(rows) - 1, row.inputs.index(ids), tuple(continuation)))
    return rows, targets


def _joins(row: Row, ids: tuple[int, ...]) -> bool:
    if ids in row.inputs:
        return True
    prefix = min(row.prefix, _common(row.inputs[0], ids))
    joined = Row([*row.inputs, ids], prefix).width
    return prefix > 0 and row.width + len(ids) - joined >= LEAST_SAVING * len(ids)


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    for i, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return i
    return min(len(first), len(second))


def tensors(rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ids, positions and part of each token, each (rows, widest row): part 0 is the prefix, padding is -1."""
    width = max(row.width for row in rows)
    ids, positions, parts = (torch.full((len(rows), width), fill) for fill in (0, 0, -1))
    for r, row in enumerate(rows):
        read, place, part = list(row.inputs[0][: row.prefix]), list(range(row.prefix)), [0] * row.prefix
        for number, request in enumerate(row.inputs, start=1):
            read += request[row.prefix :]
            place += range(row.prefix, len(request))
            part += [number] * (len(request) - row.prefix)
        for tensor, values in ((ids, read), (positions, place), (parts, part)):
            tensor[r, : len(values)] = torch.tensor(values)
    return ids, positions, parts


def allowed(positions: torch.Tensor, parts: torch.Tensor, window: int | None = None) -> torch.Tensor:
    """Return which keys each token may read: the prefix and its own part, up to itself; (rows, 1, width, width).

    window: how far back it may read at most. Padding reads itself, so that no row of the mask is empty.
    """
    width = parts.shape[1]
    earlier = torch.ones(width, width, dtype=torch.bool, device=parts.device).tril()
    related = (parts[:, None, :] == 0) | (parts[:, None, :] == parts[:, :, None])
    mask = earlier & related
    if window is not None:
        mask &= positions[:, :, None] - positions[:, None, :] < window
    return mask[:, None]


class Scorer:
    """A causal language model in evaluation mode, asked for the log-likelihoods of continuations."""

    def __init__(self, model: torch.nn.Module, budget: int):
        self.model, self.budget = model, budget
        self.tokens = 0  # that went through the model, padding left out
        core = innermost(model)
        config = core.config.get_text_config()
        self._head = core.get_output_embeddings()
        self._kinds = frozenset(getattr(config, "layer_types", None) or ())
        self._window = getattr(config, "sliding_window", None) if self._kinds != {"full_attention"} else None
        self._device, self._dtype = next(model.parameters()).device, core.dtype
        self._no_cache = {"use_cache": False} if "use_cache" in accepted_names(model) else {}

    def refusal(self, longest: int, vocabulary: int) -> str | None:
        """Say why this model cannot be asked this way, or return None: it is tried on a row of random tokens.

        longest: tokens of the longest request to come; vocabulary: every id below it exists.
        """
        if self._head is None:
            return "it has no output embeddings"
        if other := self._kinds - {"full_attention", "sliding_attention"}:
            return f"it has layers of {', '.join(sorted(other))}"
        prefix = self._window if self._window is not None and self._window < longest else CHECKED_PREFIX
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(vocabulary, (prefix + 2 * CHECKED_REST,), generator=generator).tolist()
        inputs = [(*ids[:prefix], *ids[prefix:-CHECKED_REST]), (*ids[:prefix], *ids[-CHECKED_REST:])]
        try:
            packed = self._logits([Row(inputs, prefix)], list(range(prefix, len(ids))))
            alone = torch.cat([self._plain_logits(one)[-CHECKED_REST:] for one in inputs])
        except torch.OutOfMemoryError:
            raise  # it says nothing of the mask, and lm-eval's wrapper needs more
        except Exception as error:  # whatever a model raises that does not take such a mask
            return f"it does not take the mask ({type(error).__name__}: {error})"
        if not (packed - alone).float().square().mean().sqrt() <= TOLERANCE[self._dtype] * alone.float().std():
            return "its logits under the mask are others"
        return None

    @torch.no_grad()
    def loglikelihoods(
        self, requests: Sequence[Request], max_length: int, progress: Callable[[int, int], None]
    ) -> list[tuple[float, bool]]:
        """Return the sum of the continuation's log-probabilities and whether each token was likeliest, by request."""
        rows, targets = rows_of(requests, max_length)
        by_row: dict[int, list[int]] = {}
        for number, target in enumerate(targets):
            by_row.setdefault(target.row, []).append(number)
        order: list[int] = []  # of the requests as they are asked
        parts = []
        for together in self.batches(rows):
            batch = [rows[r] for r in together]
            width = max(row.width for row in batch)
            columns: list[int] = []
            tokens: list[int] = []
            for place, r in enumerate(together):
                for number in by_row[r]:
                    target = targets[number]
                    places = rows[r].columns(target.index, len(target.tokens))
                    columns += [place * width + column for column in places]
                    tokens += target.tokens
                order += by_row[r]
            parts.append(self._chosen(self._logits(batch, columns), tokens))
            self.tokens += sum(row.width for row in batch)
            progress(len(order), len(requests))
        # One read at the end, so that a GPU's host never waits in between.
        logs, likeliest = torch.cat([a for a, _ in parts]).cpu(), torch.cat([b for _, b in parts]).cpu()
        lengths = [len(targets[number].tokens) for number in order]
        answers = [
            (float(a.sum()), bool(b.all())) for a, b in zip(logs.split(lengths), likeliest.split(lengths), strict=True)
        ]
        return [answer for _, answer in sorted(zip(order, answers, strict=True))]

    def batches(self, rows: Sequence[Row]) -> Iterator[list[int]]:
        """Yield the rows that go through the model together, by number: the longest first, within the budget."""
        batch: list[int] = []
        for r in sorted(range(len(rows)), key=lambda r: -rows[r].width):
            if batch and (len(batch) + 1) * rows[batch[0]].width > self.budget:
                yield batch
                batch = []
            batch.append(r)
        if batch:
            yield batch

    @torch.no_grad()
    def _logits(self, rows: Sequence[Row], columns: Sequence[int]) -> torch.Tensor:
        """Return the logits (columns, vocabulary) at places of the flattened rows."""
        ids, positions, part = (tensor.to(self._device, non_blocking=True) for tensor in tensors(rows))
        places = torch.tensor(columns).to(self._device, non_blocking=True)
        kept = self._head.register_forward_pre_hook(lambda _, args: (args[0].flatten(0, -2)[places][None], *args[1:]))
        try:
            mask = self._mask(positions, part)
            output = self.model(input_ids=ids, position_ids=positions, attention_mask=mask, **self._no_cache)
        finally:
            kept.remove()
        return output.logits[0]

    def _mask(self, positions: torch.Tensor, part: torch.Tensor) -> Any:
        """Return what is added to the attention scores, for each kind of layer where they differ."""
        full = self._additive(allowed(positions, part))
        if self._window is None or self._window > int(positions.shape[1]):
            return full
        sliding = self._additive(allowed(positions, part, self._window))
        both = {"full_attention": full, "sliding_attention": sliding}
        return both if len(self._kinds) > 1 else sliding

    def _additive(self, mask: torch.Tensor) -> torch.Tensor:
        zero = torch.zeros((), dtype=self._dtype, device=self._device)
        return torch.where(mask, zero, torch.finfo(self._dtype).min)

    @torch.no_grad()
    def _plain_logits(self, ids: Sequence[int]) -> torch.Tensor:
        return self.model(input_ids=torch.tensor([ids], device=self._device), **self._no_cache).logits[0]

    def _chosen(self, logits: torch.Tensor, tokens: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the log-probability of each token in float32, and whether it is the likeliest."""
        ids = torch.tensor(tokens).to(self._device, non_blocking=True)
        likeliest = logits.argmax(-1) == ids
        logs = [
            part.float().gather(1, own[:, None])[:, 0] - part.float().logsumexp(-1)
            for part, own in zip(logits.split(CHUNK), ids.split(CHUNK), strict=True)
        ]
        return torch.cat(logs), likeliest
