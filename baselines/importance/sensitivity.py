"""LoRA-SMoE's importance (arXiv 2505.06272): the squared gradient norm of a block, mean over a task's samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from baselines.importance import Importance, Measured
from smoe import Probe, sensitivity
from smoe.sensitivity import Mode


class Sensitivity(Importance):
    """S_k(W) = mean over samples of ||dL_n / dW||_F^2, as in the paper; see smoe/sensitivity.py."""

    name: ClassVar[str] = "sensitivity"
    summary: ClassVar[str] = "squared gradient norm of each sample"
    source: ClassVar[str] = "arXiv 2505.06272"
    mode: ClassVar[Mode] = "paper"

    def measure(
        self, model: torch.nn.Module, blocks: Mapping[str, torch.nn.Module], probe: Probe, most: int, seed: int | None
    ) -> Measured:
        measured = sensitivity(model, probe, target_modules=list(blocks), mode=self.mode)
        return Measured(measured.scores, {"sensitivity": measured.scores, "probe_samples": dict(measured.samples)})


class Released(Sensitivity):
    """The same, as the released code measures it: one layer a sample, clipped, squared in fp16."""

    name: ClassVar[str] = "sensitivity-released"
    summary: ClassVar[str] = "sensitivity as the released code measures it, clipped by layer"
    source: ClassVar[str] = "github EMLS-ICTCAS/LoRA-SMoE"
    mode: ClassVar[Mode] = "released"
