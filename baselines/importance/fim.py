"""FIM-LoRA's importance (github Kernel-ML/fim-lora-experiments@9811817): the Fisher information of a fresh LoRA's B.

    F_b = mean over batches and entries of (dL/dB)^2 at B = 0,  dL/dB = s dW A^T,  A ~ U(+-1/sqrt(I))
    E_A[F_b] = s^2 ||dW||_F^2 / (3 I O)

which is the sensitivity divided by the block's number of weights, up to a factor that is the same for all blocks.
Departures: there A is drawn once and the gradient is a batch's / here its expectation, and each sample's gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from baselines.importance import Importance, Measured
from smoe import Probe, sensitivity
from smoe.blocks import block_shape


class Fim(Importance):
    """Squared gradient norm per weight."""

    name: ClassVar[str] = "fim"
    summary: ClassVar[str] = "squared gradient per weight: the Fisher information of a fresh LoRA's B"
    source: ClassVar[str] = "FIM-LoRA, PEFT PR 3204"

    def measure(
        self, model: torch.nn.Module, blocks: Mapping[str, torch.nn.Module], probe: Probe, most: int, seed: int | None
    ) -> Measured:
        measured = sensitivity(model, probe, target_modules=list(blocks))
        weights = {block: shape[0] * shape[1] for block, shape in ((b, block_shape(m)) for b, m in blocks.items())}
        scores = {task: {b: s / weights[b] for b, s in found.items()} for task, found in measured.scores.items()}
        return Measured(scores, {"sensitivity": measured.scores, "probe_samples": dict(measured.samples)})
