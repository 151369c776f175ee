"""Calibration samples (the probe) -> score of every block, from one backward pass a batch and no weight gradient.

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
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from smoe.blocks import Targets, find_blocks
from smoe.gradients import accumulating, capture_linear_io, frozen_for_scoring, sample_losses
from smoe.gradients.scorers import ReleasedScorer, SamplesMixed, Scorer, SquaredNormScorer

Mode = Literal["paper", "released"]
MODES: tuple[str, ...] = get_args(Mode)
ENGINES = ("gram", "reference")
ARTEFACT = "smoe-sensitivity-1"
MOST = 1e150  # of a squared norm in an artefact

# Calibration samples, called the probe: a few tokenised training batches of each task.
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
        errors: dict[str, dict[str, float | None]] = {}
        for t, blocks in self.values.items():
            scores, spread = self.scores[t], self.spread[t]
            errors[t] = {
                b: None if (s := spread[b]) is None or not scores[b] else s / math.sqrt(len(v)) / scores[b]
                for b, v in blocks.items()
            }
        return errors

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
        except (ValueError, RecursionError) as error:  # also where the bytes are no text
            raise ValueError(f"{path} is not JSON: {error}") from error
        if not isinstance(body, dict) or body.get("format") != ARTEFACT:
            raise ValueError(f"{path} is not a sensitivity artefact (format {ARTEFACT})")
        if lacking := [name for name in ("values", "samples", "mode", "metadata") if name not in body]:
            raise ValueError(f"{path} is not a whole sensitivity artefact: it lacks {', '.join(lacking)}")
        if not _whole(body["values"]):
            raise ValueError(
                f"{path} is not a whole sensitivity artefact: every block needs its numbers, from 0 to {MOST:g}"
            )
        samples, mode, metadata = body["samples"], body["mode"], body["metadata"]
        counted = isinstance(samples, dict) and all(type(n) is int and n > 0 for n in samples.values())
        if not counted or mode not in MODES or not isinstance(metadata, dict):
            raise ValueError(
                f"{path} is not a whole sensitivity artefact: samples must be a count of each task, mode one of "
                f"{', '.join(MODES)}, metadata an object; got {samples!r:.80}, {mode!r:.80}, {metadata!r:.80}"
            )
        values = {t: {b: tuple(v) for b, v in blocks.items()} for t, blocks in body["values"].items()}
        return cls(values=values, samples=samples, mode=mode, metadata=metadata)


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
    Raises ValueError for a sample without an answer, or a block of an unsupported kind, by name, and FloatingPointError
    for a gradient that is not finite, with the width of its batch: cuDNN's attention gives some at certain widths.
    """
    if mode not in MODES or engine not in ENGINES:
        raise ValueError(f"mode {mode!r} must be one of {MODES} and engine {engine!r} one of {ENGINES}")
    if not probe or not all(len(batches) for batches in probe.values()):
        raise ValueError(f"every task needs at least one batch; tasks: {sorted(probe)}")
    blocks = find_blocks(model, target_modules)
    samples = {task: sum(batch["input_ids"].shape[0] for batch in batches) for task, batches in probe.items()}
    config = getattr(model, "config", None)
    facts = {"model": getattr(config, "name_or_path", None) or type(model).__name__, "data": probe_hash(probe)}
    facts["weights"] = weights_hash(model)
    facts |= {"engine": engine} | dict(metadata or {})
    values = {} if resume is None else _finished(resume, mode, facts, blocks)

    def finished() -> Sensitivity:
        counts = {task: samples[task] for task in probe if task in values}
        return Sensitivity(values={t: values[t] for t in counts}, samples=counts, mode=mode, metadata=facts)

    done = sum(samples[task] for task in values)
    with frozen_for_scoring(model):
        for task in [task for task in probe if task not in values]:
            scorer: Scorer = SquaredNormScorer(blocks) if mode == "paper" else ReleasedScorer(blocks, samples[task])
            together = mode == "paper" and engine == "gram"  # all samples of a batch in one pass
            with _captured(blocks, scorer, engine):
                for batch in probe[task]:
                    together = _score_batch(model, batch, scorer, task, together)
                    done += batch["input_ids"].shape[0]
                    if progress:
                        progress(done, sum(samples.values()))
            values[task] = {block: tuple(norms) for block, norms in scorer.values.items()}
            if after_task:
                after_task(finished())
    return finished()


def _captured(blocks: Mapping[str, nn.Module], scorer: Scorer, engine: str) -> AbstractContextManager[None]:
    if engine == "gram":
        return capture_linear_io(blocks, scorer.check_inputs, scorer.add)
    return accumulating(blocks, scorer.add_gradient)


def _score_batch(
    model: nn.Module, batch: Mapping[str, torch.Tensor], scorer: Scorer, task: str, together: bool
) -> bool:
    """Score a batch in one pass, or one sample at a time; tell whether the next batch may have one pass."""
    device = next(model.parameters()).device
    on_device = {name: tensor.to(device) for name, tensor in batch.items()}
    if together:
        try:
            _score(model, on_device, scorer, task)
            return True
        except SamplesMixed as mixed:
            warnings.warn(f"{mixed}: samples are scored one at a time", stacklevel=3)
    for row in range(batch["input_ids"].shape[0]):
        _score(model, {k: v[row : row + 1] for k, v in on_device.items()}, scorer, task)
    return False


def _score(model: nn.Module, batch: Mapping[str, torch.Tensor], scorer: Scorer, task: str) -> None:
    rows, width = batch["input_ids"].shape
    scorer.start_batch(rows, width)
    torch.autograd.backward(sample_losses(model, batch, task).sum())
    scorer.end_batch()
    for block, values in scorer.values.items():
        if not all(map(math.isfinite, values[-rows:])):
            raise FloatingPointError(
                f"{task}, block {block}: the gradient is not finite in a batch of {rows} samples of {width} tokens; "
                "a dtype with more range, or on a GPU torch.backends.cuda.enable_cudnn_sdp(False), may help"
            )


def _finished(
    resume: Sensitivity, mode: str, facts: Mapping[str, Any], blocks: Mapping[str, nn.Module]
) -> dict[str, Mapping[str, Sequence[float]]]:
    """Return the tasks of an unfinished pass. Raises ValueError naming what differs where it is another pass."""
    then, now = {"mode": resume.mode, **resume.metadata}, {"mode": mode, **facts}
    # Compared as JSON, since an artefact that was saved has lists for tuples.
    differ = [k for k in {**then, **now} if json.dumps(then.get(k)) != json.dumps(now.get(k))]
    if any(scored.keys() != blocks.keys() for scored in resume.values.values()):
        differ.append("blocks")
    if differ:
        raise ValueError(f"the unfinished scores are of another pass: {', '.join(differ)} differ")
    return dict(resume.values)


def _whole(values: Any) -> bool:
    """Tell whether these are task -> block -> numbers, none of them empty."""
    if not isinstance(values, dict) or not all(isinstance(blocks, dict) and blocks for blocks in values.values()):
        return False
    lists = [v for blocks in values.values() for v in blocks.values()]
    return bool(lists) and all(isinstance(v, list) and v and all(map(_is_square, v)) for v in lists)


def _is_square(value: Any) -> bool:
    """Tell whether this is a squared norm whose own square is still a number: from 0 on, neither NaN nor infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < MOST


def weights_hash(model: nn.Module) -> str:
    """Hash names, shapes and 64 evenly spaced values of every parameter, 16 hex: which weights were scored."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        values = parameter.detach().reshape(-1)
        few = values[:: max(1, values.numel() // 64)].cpu().contiguous().view(torch.uint8)
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}\n".encode() + few.numpy().tobytes())
    return digest.hexdigest()[:16]


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
