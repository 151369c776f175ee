"""AlphaLoRA's importance (Qing et al. 2024, arXiv 2410.10054): the power-law exponent of a weight's spectrum; no data.

The tail fit is the released one: Hill's estimate above a lower cut, the cut with the least Kolmogorov-Smirnov distance.
It is written here because `powerlaw` takes about 25 times as long (a minute for 210 blocks, which would count as the
method's cost) for the same numbers to ten digits, and since its version 2 bounds exponents at 3 unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

import torch

from baselines.importance import Importance, Measured, Rule, same_for_all
from smoe import Probe
from smoe.diagnostics import in_double

CUTS = 256  # lower cuts that are tried at once: bounds memory


class Alpha(Importance):
    """A layer's importance is the mean exponent of its matrices: a light tail is taken for a layer less trained."""

    name: ClassVar[str] = "alpha"
    summary: ClassVar[str] = "power-law exponent of the weights' spectra; no data"
    source: ClassVar[str] = "arXiv 2410.10054"
    rule: ClassVar[Rule] = "layers"
    beta: ClassVar[float] = 2.5

    def measure(
        self, model: torch.nn.Module, blocks: Mapping[str, torch.nn.Module], probe: Probe, most: int, seed: int | None
    ) -> Measured:
        exponents = tail_exponents(blocks)
        return Measured(same_for_all(exponents, probe), {"exponents": exponents})


def tail_exponents(blocks: Mapping[str, torch.nn.Module]) -> dict[str, float]:
    """Return the exponent of every block, above 1; a heavy tail has a small one. Raises ValueError if packed."""
    weights = {name: cast(torch.Tensor, block.weight) for name, block in blocks.items()}
    if packed := next((name for name, w in weights.items() if not w.is_floating_point()), None):
        raise ValueError(f"the weights' spectrum is needed, and {packed} is packed: leave --quantize out")
    return {name: tail_exponent(eigenvalues(weight)) for name, weight in weights.items()}


@torch.no_grad()
def eigenvalues(weight: torch.Tensor) -> torch.Tensor:
    """Return the eigenvalues of W^T W that are not zero, ascending, in float64, min(I, O) of them at most."""
    w = in_double(weight.detach())
    values = torch.linalg.eigvalsh(w @ w.T if w.shape[0] < w.shape[1] else w.T @ w)
    return values[values > 1e-12 * values[-1]]


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
