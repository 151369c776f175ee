"""The sensitivity pass against scoring block by block as the released code does it, and as a share of training.

Released code: BAdam with one block active, a new one each step, one sample a step, the score read from the clipped
gradient. Its block is a whole layer (seven of our blocks); one weight matrix at a time is what the comparison is named
after. Both are measured, on a few blocks spread evenly over the depth, since the backward pass ends at the active one.

About half of a step of the package is `gc.collect()` at every switch. The stand-in collects no garbage, so against it
our lead is smaller than against the package: the harder comparison of the two.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from itertools import cycle
from statistics import median
from typing import Any

import torch

from benchmarks.data.batches import Batch
from benchmarks.jobs.train import answer_loss, answer_width
from benchmarks.speed.ratios import Ratio, SideBySide, Subject, Target, ratio
from benchmarks.speed.setting import Allocated, Setting, steps
from smoe import find_blocks, place, sensitivity

PAIR = Target(name="sensitivity: time per sample and block, one block at a time / ours", bound=50, at_most=False)
LAYER = Target(name="sensitivity: time per sample and block, one layer at a time / ours", bound=50, at_most=False)
SHARE = Target(name="sensitivity: whole pass / training of --profile full", bound=0.05)
ACTIVE = 10  # blocks, and layers, that a round visits
LEARNING_RATE = 1e-5  # of the released code


def targets(device: str) -> list[Target]:
    """Return the ratios measured on `device`, with their bounds."""
    return [PAIR, LAYER]


def share_targets(device: str) -> list[Target]:
    """Return the ratio of scoring to an epoch of training."""
    return [SHARE]


def prepare(setting: Setting) -> Subject:
    """Ours scores every block on one batch; the others visit `ACTIVE` blocks or layers with one sample each."""
    batch = {k: v.to(setting.device) for k, v in setting.training_batches(1)[0][0].items()}
    model = setting.load()
    blocks = list(find_blocks(model))
    layers = list(dict.fromkeys(map(_layer_prefix, blocks)))
    visited = {"block": _spread(blocks), "layer": _spread(layers)}
    samples = _samples(batch)
    one_by_one = {name: _block_by_block(setting.load(), active, samples) for name, active in visited.items()}
    ours: dict[str, Callable[[], object]] = {"ours": lambda: sensitivity(model, {"task": [batch]})}
    contest = SideBySide(ours | one_by_one, setting.device)
    pairs = {"ours": len(samples) * len(blocks), "block": len(visited["block"])}
    pairs["layer"] = len(visited["layer"]) * len(blocks) // len(layers)

    def rows() -> list[Ratio]:
        us = {name: f"{1e6 * contest.median(name) / n:,.0f} us" for name, n in pairs.items()}
        shape = "batch {} x {}, {} blocks".format(*batch["input_ids"].shape, len(blocks))
        return [
            ratio(
                target,
                contest.over(name, "ours", pairs["ours"] / pairs[name]),
                f"{us[name]} / {us['ours']}; {shape}; {_BADAM}",
            )
            for target, name in ((PAIR, "block"), (LAYER, "layer"))
        ]

    return Subject(contest, setting.rounds(5), rows)


def prepare_share(setting: Setting) -> Subject:
    """Set the default probe against batches for an epoch of `--profile full`: in a round, a task and a batch."""
    method = Allocated(experts=setting.experts)
    model, base = method.attach(setting.load(), {}, 1), setting.load()
    turns = len(setting.probe)
    chosen = setting.training_batches(turns)
    tasks, trained = cycle(setting.probe.items()), cycle(chosen)
    contest = SideBySide(
        {
            "pass": lambda: sensitivity(base, dict([next(tasks)])),
            "train": lambda: steps(model, method, [next(trained)]),
        },
        setting.device,
    )

    def rows() -> list[Ratio]:
        whole = {name: [sum(s[i : i + turns]) for i in range(0, len(s), turns)] for name, s in contest.seconds.items()}
        rates = [sum(count for _, count in chosen) / seconds for seconds in whole["train"]]
        epochs = [setting.full_tokens / rate for rate in rates]
        detail = f"{median(whole['pass']):.1f} / {median(epochs):.0f} s for {setting.full_tokens:,} tokens of "
        detail += f"{sum(map(len, setting.examples.values())):,} documents, at {median(rates):.0f} tokens a second"
        return [ratio(SHARE, [p / e for p, e in zip(whole["pass"], epochs, strict=True)], detail)]

    return Subject(contest, setting.rounds(3) * turns, rows)


def _spread(names: list[str]) -> list[str]:
    count = min(ACTIVE, len(names))
    return [names[int((i + 0.5) * len(names) / count)] for i in range(count)]


def _layer_prefix(block: str) -> str:
    """Return the name of the layer around a block, such as "model.layers.0"."""
    layer, _ = place(block)
    return block.partition(f".{layer}.")[0] + f".{layer}"


def _samples(batch: Batch) -> list[Batch]:
    """Each row alone, without its padding on the left."""
    lengths = batch["attention_mask"].sum(1).tolist()
    return [
        {k: v[i : i + 1, -n:].contiguous() if v.ndim > 1 else v[i : i + 1] for k, v in batch.items()}
        for i, n in enumerate(lengths)
    ]


def _block_by_block(model: Any, active: list[str], samples: list[Batch]) -> Callable[[], None]:
    """Run a round over the active blocks, one sample a step: backward, clip, read the squares, step, next block."""
    prefixes = [[name + "."] for name in active]
    inner = torch.optim.AdamW(list(model.parameters()), lr=LEARNING_RATE)
    with contextlib.redirect_stdout(io.StringIO()):
        optimizer = _BlockOptimizer(inner, list(model.named_parameters()), prefixes, switch_block_every=1, verbose=0)

    def visit() -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints every switch
            for i in range(len(active)):
                sample = samples[i % len(samples)]
                answer_loss(model, sample, answer_width(sample)).backward()
                weights = [p for p in model.parameters() if p.grad is not None]
                torch.nn.utils.clip_grad_norm_(weights, 1.0)
                for weight in weights:
                    weight.grad.half().square().sum().item()
                optimizer.step()

    return visit


class StandIn:
    """What BAdam does with `switch_block_every=1`, for machines without the package."""

    def __init__(self, inner: Any, named: list, prefixes: list[list[str]], **unused: Any) -> None:
        self.named, self.prefixes, self.lr = named, prefixes, inner.defaults["lr"]
        self.turn = len(prefixes) - 1
        self._activate()

    def _activate(self) -> None:
        self.pairs = []
        for name, weight in self.named:
            weight.requires_grad_(any(prefix in name for prefix in self.prefixes[self.turn]))
            weight.grad = None
            if weight.requires_grad:
                self.pairs.append((weight, weight.detach().float().clone().requires_grad_(True)))
        self.inner = torch.optim.AdamW([master for _, master in self.pairs], lr=self.lr)
        self.turn = (self.turn - 1) % len(self.prefixes)

    def step(self) -> None:
        for weight, master in self.pairs:
            master.grad = weight.grad.float()
        self.inner.step()
        for weight, master in self.pairs:
            weight.data.copy_(master.data)
        self._activate()


try:
    from badam import BlockOptimizer as _BlockOptimizer

    _BADAM = "badam package"
except ImportError:
    _BlockOptimizer, _BADAM = StandIn, "stand-in for badam"
