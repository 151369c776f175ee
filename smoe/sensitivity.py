"""Probe batches -> score of every weight block, from one backward pass a batch and no weight gradient.

    S_k(W) = (1 / N_k) sum over samples n of ||dL_n / dW||_F^2          L_n: mean loss over sample n's answer tokens

For y = W x with inputs X (T, I) and output gradients G (T, O) of one sample the gradient is G^T X, and

    ||G^T X||_F^2 = <X X^T, G G^T>_F

so two T x T Gram matrices give the norm (in fp32: squares of bf16 gradients vanish), or the (O, I) product is formed
for one sample and dropped, where that is cheaper. Weights are frozen; the embedding's output asks for the gradient.
The samples of a batch share a pass where every block sees (B, S, I). A block that sees its tokens flattened (OPT) or
gathered (an expert of a mixture) does not say whose they are: such a model is scored one sample at a time.

Source: LoRA-SMoE (arXiv 2505.06272). Mode "paper" is the formula. Mode "released" follows the authors' code, which
takes one layer a sample in descending order, clips the gradient over that layer at 1.0 and sums its squares in fp16, so
that entries below about 1.7e-4 vanish and magnitudes across layers are lost. Departures of "released": its optimiser
steps between samples are left out, its score is the mean (there: the sum) over a block's samples, and clipping looks at
the layer's blocks (there: also its norms).
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from smoe.blocks import Targets, find_blocks
from smoe.gradients import Grams, accumulating, frozen_for_scoring, sample_losses, watching, weight_gradient

MODES = ("paper", "released")
ENGINES = ("gram", "reference")
ARTEFACT = "smoe-sensitivity-1"

Probe = Mapping[str, Sequence[Mapping[str, torch.Tensor]]]
Progress = Callable[[int, int], None]  # samples done, samples in all


@dataclass(frozen=True)
class Sensitivity:
    """Scores of every task and block, with the samples behind them."""

    values: Mapping[str, Mapping[str, Sequence[float]]]  # task -> block -> squared norm of each sample that scored it
    samples: Mapping[str, int]  # task -> samples in its probe
    mode: str  # "paper" | "released"
    metadata: Mapping[str, Any] = field(default_factory=dict)  # model, data hash, engine, and what the caller adds

    @cached_property
    def scores(self) -> dict[str, dict[str, float]]:
        """Mean over the samples: task -> block -> S_k(W)."""
        return {t: {b: sum(v) / len(v) for b, v in blocks.items()} for t, blocks in self.values.items()}

    @cached_property
    def spread(self) -> dict[str, dict[str, float | None]]:
        """Sample standard deviation over the samples; None where there is one."""
        return {
            t: {b: statistics.stdev(v) if len(v) > 1 else None for b, v in blocks.items()}
            for t, blocks in self.values.items()
        }

    @cached_property
    def relative_error(self) -> dict[str, dict[str, float | None]]:
        """Standard error of each score over the score, spread / (sqrt(N) S); None for one sample or a score of 0."""
        found: dict[str, dict[str, float | None]] = {}
        for t, blocks in self.values.items():
            scores, spread = self.scores[t], self.spread[t]
            found[t] = {
                b: None if (s := spread[b]) is None or not scores[b] else s / math.sqrt(len(v)) / scores[b]
                for b, v in blocks.items()
            }
        return found

    def first(self, samples: int) -> Sensitivity:
        """Return what a probe of each task's first `samples` samples would have given (mode "paper" only)."""
        if self.mode != "paper" or samples < 1:
            raise ValueError(f"needs mode 'paper' and at least one sample, got {self.mode!r} and {samples}")
        values = {t: {b: tuple(v[:samples]) for b, v in blocks.items()} for t, blocks in self.values.items()}
        counts = {t: min(samples, n) for t, n in self.samples.items()}
        return Sensitivity(values=values, samples=counts, mode=self.mode, metadata=self.metadata)

    def save(self, path: str | Path) -> None:
        """Write a JSON artefact that `load` reads and a person can inspect; whole or not at all."""
        body = {
            "format": ARTEFACT,
            "mode": self.mode,
            "samples": dict(self.samples),
            "metadata": dict(self.metadata),
            "scores": self.scores,
            "values": {t: {b: list(v) for b, v in blocks.items()} for t, blocks in self.values.items()},
        }
        draft = Path(f"{path}.draft")
        draft.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
        draft.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> Sensitivity:
        """Read an artefact. Raises ValueError, with the reason, for any other file."""
        try:
            body = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:  # also where the bytes are no text
            raise ValueError(f"{path} is not JSON: {error}") from error
        if not isinstance(body, dict) or body.get("format") != ARTEFACT:
            raise ValueError(f"{path} is not a sensitivity artefact (format {ARTEFACT})")
        if lacking := [name for name in ("values", "samples", "mode", "metadata") if name not in body]:
            raise ValueError(f"{path} is not a whole sensitivity artefact: it lacks {', '.join(lacking)}")
        if not _whole(body["values"]):
            raise ValueError(f"{path} is not a whole sensitivity artefact: every block of a task needs its numbers")
        values = {t: {b: tuple(v) for b, v in blocks.items()} for t, blocks in body["values"].items()}
        return cls(values=values, samples=body["samples"], mode=body["mode"], metadata=body["metadata"])


def sensitivity(
    model: nn.Module,
    probe: Probe,
    *,
    target_modules: Targets = None,
    mode: str = "paper",
    engine: str = "gram",
    progress: Progress | None = None,
    metadata: Mapping[str, Any] | None = None,
    resume: Sensitivity | None = None,
    after_task: Callable[[Sensitivity], None] | None = None,
) -> Sensitivity:
    """Score every block of a causal language model on a few batches of each task.

    probe: task -> batches of "input_ids", "attention_mask" (optional) and "labels", each (B, S), -100 off the answer;
    padding on either side. How samples are batched does not change a score.
    target_modules: as in `find_blocks`. engine: "gram" as above; "reference" is one sample at a time with weight
    gradients, slow and plain. progress(done, total) is called after every batch. Dropout is off while scoring; training
    mode, `requires_grad` and gradients are as before afterwards, also after an interrupt.
    after_task is given everything finished so far after every task; as `resume` in a later call, whose model, probe,
    mode, engine and metadata must be the same, its tasks are not scored again.
    Raises ValueError for a sample without an answer, or a block of an unsupported kind, by name.
    """
    if mode not in MODES or engine not in ENGINES:
        raise ValueError(f"mode {mode!r} must be one of {MODES} and engine {engine!r} one of {ENGINES}")
    if not probe or not all(len(batches) for batches in probe.values()):
        raise ValueError(f"every task needs at least one batch; tasks: {sorted(probe)}")
    blocks = find_blocks(model, target_modules)
    device = next(model.parameters()).device
    samples = {task: sum(batch["input_ids"].shape[0] for batch in batches) for task, batches in probe.items()}
    config = getattr(model, "config", None)
    facts = {"model": getattr(config, "name_or_path", None) or type(model).__name__, "data": probe_hash(probe)}
    facts |= {"engine": engine} | dict(metadata or {})
    values = {} if resume is None else _finished(resume, mode, facts, blocks)

    def finished() -> Sensitivity:
        counts = {task: samples[task] for task in probe if task in values}
        return Sensitivity(values={t: values[t] for t in counts}, samples=counts, mode=mode, metadata=facts)

    done = sum(samples[task] for task in values)
    with frozen_for_scoring(model):
        for task, batches in probe.items():
            if task in values:
                continue
            scorer: _Paper | _Released = _Paper(blocks) if mode == "paper" else _Released(blocks, samples[task])
            together = mode == "paper" and engine == "gram"  # all samples of a batch in one pass
            listening = (
                watching(blocks, scorer.look, scorer.take)
                if engine == "gram"
                else accumulating(blocks, scorer.take_gradient)
            )
            with listening:
                for batch in batches:
                    rows = batch["input_ids"].shape[0]
                    on_device = {name: tensor.to(device) for name, tensor in batch.items()}
                    if together:
                        try:
                            _score(model, on_device, scorer, task)
                        except _SamplesMixed as mixed:
                            warnings.warn(f"{mixed}: samples are scored one at a time", stacklevel=2)
                            together = False
                    if not together:
                        for row in range(rows):
                            _score(model, {k: v[row : row + 1] for k, v in on_device.items()}, scorer, task)
                    done += rows
                    if progress:
                        progress(done, sum(samples.values()))
            values[task] = {block: tuple(found) for block, found in scorer.values.items()}
            if after_task:
                after_task(finished())
    return finished()


def _score(model: nn.Module, batch: Mapping[str, torch.Tensor], scorer: _Paper | _Released, task: str) -> None:
    scorer.start(*batch["input_ids"].shape)
    sample_losses(model, batch, task).sum().backward()
    scorer.finish()


def _finished(
    resume: Sensitivity, mode: str, facts: Mapping[str, Any], blocks: Mapping[str, nn.Module]
) -> dict[str, Mapping[str, Sequence[float]]]:
    """The tasks of an unfinished pass. Raises ValueError naming what differs where it is another pass."""
    then, now = {"mode": resume.mode, **resume.metadata}, {"mode": mode, **facts}
    # Compared as JSON, since an artefact that was saved has lists for tuples.
    differ = [k for k in {**then, **now} if json.dumps(then.get(k)) != json.dumps(now.get(k))]
    if any(found.keys() != blocks.keys() for found in resume.values.values()):
        differ.append("blocks")
    if differ:
        raise ValueError(f"the unfinished scores are of another pass: {', '.join(differ)} differ")
    return dict(resume.values)


def _whole(values: Any) -> bool:
    """Tell whether these are task -> block -> numbers, none of them empty."""
    if not isinstance(values, dict) or not all(isinstance(blocks, dict) and blocks for blocks in values.values()):
        return False
    found = [v for blocks in values.values() for v in blocks.values()]
    return bool(found) and all(isinstance(v, list) and v and all(isinstance(n, int | float) for n in v) for v in found)


def probe_hash(probe: Probe) -> str:
    """Hash the tokens and labels of a probe, 16 hex; padding and batching leave it as it is."""
    digest = hashlib.sha256()
    for task, batches in probe.items():
        digest.update(f"task {task}\n".encode())
        for batch in batches:
            mask = batch.get("attention_mask")
            for row in range(batch["input_ids"].shape[0]):
                keep = slice(None) if mask is None else mask[row].bool().cpu()
                pair = [batch[name][row].cpu()[keep].tolist() for name in ("input_ids", "labels")]
                digest.update(json.dumps(pair).encode())
    return digest.hexdigest()[:16]


class _SamplesMixed(Exception):
    """A block's inputs do not say which sample each of their rows belongs to."""


class _Paper:
    """Collects ||dL_n / dW||_F^2 of every sample; a block that a pass does not call scores 0 in it."""

    def __init__(self, blocks: Mapping[str, nn.Module]) -> None:
        self.values: dict[str, list[float]] = {block: [] for block in blocks}

    def start(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.grams = Grams()
        self.norms: dict[str, torch.Tensor] = {}

    def look(self, block: str, x: torch.Tensor) -> None:
        if self.rows > 1 and x.shape[:-1] != (self.rows, self.columns):
            raise _SamplesMixed(f"{block} does not see a row of tokens for each sample of a batch")

    def take(self, block: str, x: torch.Tensor, g: torch.Tensor) -> None:
        if block in self.norms:
            raise ValueError(f"{block} is called twice in one forward pass: its gradient is a sum over calls")
        # What one sample sends through a block counts in any order and shape: its gradient is a sum over rows.
        x, g = (t.reshape(self.rows, -1, t.shape[-1]) for t in (x, g))
        self.norms[block] = self.grams.squared_norms(x, g)

    def take_gradient(self, block: str, gradient: torch.Tensor) -> None:
        self.norms[block] = gradient.float().square().sum().reshape(1)

    def finish(self) -> None:
        self.grams.clear()
        # Read once a batch, not once a block: each read waits for the device.
        called = list(self.norms)
        table = torch.stack([self.norms[b] for b in called]).tolist() if called else []
        found = dict(zip(called, table, strict=True))
        for block, values in self.values.items():
            values.extend(found.get(block, [0.0] * self.rows))


class _Released:
    """Step i scores layer (last - i mod layers) on sample (i mod samples): clipped at 1, squared in fp16."""

    def __init__(self, blocks: Mapping[str, nn.Module], samples: int) -> None:
        self.values: dict[str, list[float]] = {block: [] for block in blocks}
        self.layer_of = {block: _layer(block) for block in blocks}
        layers = sorted(set(self.layer_of.values()), reverse=True)
        self.turns: list[set[int]] = [set() for _ in range(samples)]
        for step in range(max(samples, len(layers))):
            self.turns[step % samples].add(layers[step % len(layers)])
        self.sample = -1

    def start(self, rows: int, columns: int) -> None:
        self.sample += 1
        self.layer: int | None = None
        self.gradients: dict[str, torch.Tensor] = {}
        self.seen: set[str] = set()

    def look(self, block: str, x: torch.Tensor) -> None:
        """Nothing to see: a pass holds one sample."""

    def take(self, block: str, x: torch.Tensor, g: torch.Tensor) -> None:
        if self.layer_of[block] in self.turns[self.sample]:
            if block in self.seen:
                raise ValueError(f"{block} is called twice in one forward pass: its gradient is a sum over calls")
            self.take_gradient(block, weight_gradient(x.flatten(0, -2), g.flatten(0, -2)))

    def take_gradient(self, block: str, gradient: torch.Tensor) -> None:
        layer = self.layer_of[block]
        if layer not in self.turns[self.sample]:
            return
        if layer != self.layer:
            # Backward leaves a layer before it enters the next: no more than one layer's gradients are held.
            self._close_layer()
            self.layer = layer
        self.seen.add(block)
        self.gradients[block] = gradient.float()

    def _close_layer(self) -> None:
        if not self.gradients:
            return
        norm = torch.stack([g.square().sum() for g in self.gradients.values()]).sum().sqrt()
        clip = (1.0 / (norm + 1e-6)).clamp_max(1.0)
        for block, gradient in self.gradients.items():
            self.values[block].append(float((gradient * clip).half().square().sum()))
        self.gradients = {}

    def finish(self) -> None:
        self._close_layer()
        for block, values in self.values.items():
            if self.layer_of[block] in self.turns[self.sample] and block not in self.seen:
                values.append(0.0)


def _layer(block: str) -> int:
    """The first number in a block's name, its layer; -1 for a block outside the layers."""
    return next((int(part) for part in block.split(".") if part.isdigit()), -1)
