"""AlphaLoRA (Qing et al. 2024, arXiv 2410.10054): experts by layer, from the spectra of the weights; no data needed.

    a_l = mean over the layer's matrices of the power-law exponent of the eigenvalues of W^T W
    s_l = total * a_l^beta / sum over layers of a_l^beta            beta = 2.5; all blocks of a layer get s_l experts

A heavy tail (small a) is taken for a well-trained layer, which needs fewer. Released code: numbers are rounded, then
repaired by adding and taking away one at a time, which need not end at the total. Here: largest remainder, exact.
The tail fit is the released one: Hill's estimate above a lower cut, the cut with the least Kolmogorov-Smirnov distance.
It is written here because `powerlaw` takes about 25 times as long (a minute for 210 blocks, which would count as this
method's cost) for the same numbers to ten digits, and since its version 2 bounds exponents at 3 unless told otherwise.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch

from baselines.budgeted import Allocator, by_layer, layers_of
from baselines.experts import Facts
from baselines.method import Probe
from smoe import block_shapes, find_blocks
from smoe.blocks import block_shape

CUTS = 256  # lower cuts that are tried at once: bounds memory


@dataclass(frozen=True, kw_only=True)
class AlphaLora(Allocator):
    """More experts where the weights' spectrum has the lighter tail."""

    name: ClassVar[str] = "alphalora"
    summary: ClassVar[str] = "AlphaLoRA: experts where weight spectra say a layer is less trained"
    source: ClassVar[str] = "arXiv 2410.10054"

    beta: float = 2.5  # power of the exponent; 0: the same everywhere

    def check(self, model: torch.nn.Module, tasks: Sequence[str], total_steps: int) -> None:
        shapes = block_shapes(model, self.target_modules)
        by_layer(dict.fromkeys(layers_of(shapes), 1.0), self.budget, shapes, self.r)

    def allocate(self, model: torch.nn.Module, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        blocks = find_blocks(model, self.target_modules)
        shapes = {name: block_shape(block) for name, block in blocks.items()}
        weights = {name: cast(torch.Tensor, block.weight) for name, block in blocks.items()}
        if packed := next((name for name, w in weights.items() if not w.is_floating_point()), None):
            raise ValueError(f"{self.name} reads the weights' spectrum, and {packed} is packed: leave --quantize out")
        exponents = {name: tail_exponent(eigenvalues(weight)) for name, weight in weights.items()}
        means = {layer: statistics.fmean(exponents[b] for b in own) for layer, own in layers_of(shapes).items()}
        experts = by_layer({layer: a**self.beta for layer, a in means.items()}, self.budget, shapes, self.r)
        return experts, {"exponents": exponents}


@torch.no_grad()
def eigenvalues(weight: torch.Tensor) -> torch.Tensor:
    """Return the eigenvalues of W^T W that are not zero, ascending, in float64, min(I, O) of them at most."""
    w = weight.detach().double()
    found = torch.linalg.eigvalsh(w @ w.T if w.shape[0] < w.shape[1] else w.T @ w)
    return found[found > 1e-12 * found[-1]]


def tail_exponent(values: torch.Tensor) -> float:
    """Fit p(x) ~ x^-a to the tail of `values` (n,) and return a.

        a = 1 + k / sum over the k values x_i >= c of ln(x_i / c)
        D = max over the tail, ascending from i = 0, of |i / k - (1 - (x_i / c)^(1 - a))|

    The cut c is the value, of those with two or more in their tail, whose D is least. Raises ValueError unless at least
    two values differ.
    """
    logs = values.double().sort().values.log()
    n = len(logs)
    if n < 2 or logs[0] == logs[-1]:
        raise ValueError(f"a tail cannot be fitted to {n} equal values")
    sizes = torch.arange(n, 0, -1, dtype=torch.float64, device=logs.device)  # k of each cut
    above = logs.flip(0).cumsum(0).flip(0) - sizes * logs  # sum of ln(x_i / c)
    cuts = torch.nonzero((above > 0) & (sizes > 1)).squeeze(1)
    rates = sizes / above  # a - 1
    distances = []
    for part in cuts.split(CUTS):
        rank = torch.arange(n, device=logs.device)[None, :] - part[:, None]  # of each value in the tail, from 0
        fitted = 1 - torch.exp(-rates[part, None] * (logs[None, :] - logs[part, None]))
        apart = (rank / sizes[part, None] - fitted).abs()
        distances.append(torch.where(rank >= 0, apart, 0.0).amax(1))
    best = cuts[torch.cat(distances).argmin()]
    return 1 + float(rates[best])
