"""How an adapter is scaled, and GOAT's start: experts as segments of the weight's singular value decomposition.

    W = U S V^T    B_e = U_e sqrt(S_e / (s rho)), A_e = sqrt(S_e / (s rho)) V_e^T    W <- W - (s / E) sum_e B_e A_e

Expert e takes its r triplets from the index e floor(min(I, O) / E) on, so that every expert has its own part of the
spectrum. Source: arXiv 2502.16894, github Facico/GOAT-PEFT@ef4d21a. A block narrower than E r directions keeps the
usual start (A drawn, B zero), where the release skips it without a word. As with PiSSA the base weight is rewritten:
loading an adapter decomposes the base again, and disabling it does not give the base back.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from smoe.config import SMoEConfig


def block_scale(config: SMoEConfig, inputs: int) -> float:
    """Return what the update of a block is scaled by: alpha / r, or sqrt(3 input_scale I / r)."""
    if config.input_scale is None:
        return config.lora_alpha / config.r
    return math.sqrt(3 * config.input_scale * inputs / config.r)


def wide_enough(shape: tuple[int, int], experts: int, r: int) -> bool:
    """Tell whether a block (I, O) has the directions that its experts start at."""
    return min(shape) >= experts * r


def take_out(base: nn.Module, a: torch.Tensor, b: torch.Tensor, experts: int, config: SMoEConfig, scale: float) -> None:
    """Write the start of a block's experts into A (E r and more rows, I) and B (O, E r), and take it out of the weight.

    Raises ValueError for a quantised weight. The decomposition is made in fp32.
    """
    weight: torch.Tensor = base.weight.data  # type: ignore[assignment]
    if not weight.is_floating_point():
        raise ValueError(f"init_weights 'svd' needs floating point weights, found {weight.dtype}")
    if config.share_A:
        raise ValueError("init_weights 'svd' gives every expert an A of its own: leave share_A out")
    if weight.is_meta or not wide_enough((a.shape[1], b.shape[0]), experts, config.r):
        return
    flipped = isinstance(base, Conv1D)
    matrix = (weight.T if flipped else weight).float()  # (O, I)
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    step = min(matrix.shape) // experts
    index = torch.cat([torch.arange(config.r) + e * step for e in range(experts)]).to(s.device)
    root = (s[index] / (scale * config.svd_rho)).sqrt()
    a[: experts * config.r] = (root[:, None] * vt[index]).to(a)
    b.copy_((u[:, index] * root).to(b))
    if config.svd_residual:
        update = (u[:, index] * root) @ (root[:, None] * vt[index]) * (scale / experts)
        rest = matrix - update
        weight.copy_((rest.T if flipped else rest).to(weight.dtype))
