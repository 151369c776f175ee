"""Allocation stability: how much of an allocation survives another draw of the probe, or a smaller one.

Overlap of two allocations is the share of experts that both put into the same blocks, sum min(a, b) / the larger total;
by chance, with both histograms dealt to the blocks at random, it is the mean of min(a_i, b_j) over all pairs of blocks,
times their number. Rank correlation is Spearman's, over blocks; by chance it is 0. "another draw": every pair of draws
with the same number of samples. "smaller probe": an allocation against that of the same draw's largest probe, which
contains it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.stats import ConstantInputWarning, spearmanr

from reports.figures import style
from reports.figures.canvas import Rows, new_figure
from results.stability import Stability

DRAW, SMALLER = "another draw", "smaller probe"


def load_stability(folder: Path) -> list[Stability]:
    """Every measurement of a folder. Raises RecordError naming a file that is none."""
    return [Stability.load(path) for path in sorted(folder.glob("*.json"))]


def overlap(a: Mapping[str, int], b: Mapping[str, int]) -> float:
    """Share of experts that both allocations put into the same blocks; 1 for equal ones. The blocks must agree."""
    total = _larger(a, b)
    return sum(min(a[block], b[block]) for block in a) / total


def chance_overlap(a: Mapping[str, int], b: Mapping[str, int]) -> float:
    """Return the expected `overlap` of both dealt to blocks at random: n * mean of min(a_i, b_j) / the larger total."""
    pairs = np.minimum.outer(np.array(list(a.values())), np.array(list(b.values())))
    return float(pairs.mean() * len(a) / _larger(a, b))


def rank_correlation(a: Mapping[str, int], b: Mapping[str, int]) -> float | None:
    """Spearman's rho over blocks, ties averaged; None where one of them is the same everywhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        rho = float(spearmanr(list(a.values()), [b[block] for block in a]).statistic)
    return None if np.isnan(rho) else rho


def stability_rows(measured: Sequence[Stability]) -> Rows:
    """Return a row for every compared pair of allocations."""
    rows: Rows = []
    for one in measured:
        sizes = sorted({samples for _, samples in one.allocations})
        draws = sorted({seed for seed, _ in one.allocations})
        pairs = [(DRAW, n, (i, n), (j, n)) for n in sizes for i, j in combinations(draws, 2)]
        pairs += [(SMALLER, n, (i, n), (i, sizes[-1])) for n in sizes[:-1] for i in draws]
        for kind, samples, first, second in pairs:
            if first in one.allocations and second in one.allocations:
                a, b = one.allocations[first], one.allocations[second]
                rows.append(
                    {
                        "method": _label(one, measured), "family": one.method, "kind": kind, "samples": samples,
                        "draw": first[0], "against_draw": second[0], "against_samples": second[1],
                        "overlap": overlap(a, b), "chance": chance_overlap(a, b),
                        "rank_correlation": rank_correlation(a, b), "record": one.name,
                    }
                )  # fmt: skip
    return rows


def draw_stability(rows: Rows, title: str) -> Figure:
    """Overlap and rank correlation against samples a task: every pair as a dot, means as lines, chance dashed."""
    figure, axes = new_figure(7.4, 3.9, columns=2)
    looks: dict[str, dict[str, Any]] = style.looks({(r["method"], r["family"]): None for r in rows})
    for ax, (field, label, factor) in zip(
        axes, (("overlap", "Overlap of experts (%)", 100.0), ("rank_correlation", "Rank correlation over blocks", 1.0)),
        strict=True,
    ):  # fmt: skip
        for method, look in looks.items():
            for kind, dashes in ((DRAW, "-"), (SMALLER, ":")):
                own = [r for r in rows if r["method"] == method and r["kind"] == kind and r[field] is not None]
                sizes = sorted({r["samples"] for r in own})
                means = [factor * float(np.mean([r[field] for r in own if r["samples"] == n])) for n in sizes]
                face = look["color"] if kind == DRAW else "white"
                ax.plot(sizes, means, **{**look, "linestyle": dashes}, markerfacecolor=face, markersize=5.5)
                ax.plot(
                    [r["samples"] for r in own], [factor * r[field] for r in own], ".", color=look["color"], alpha=0.25
                )
            if field == "overlap":
                own = [r for r in rows if r["method"] == method and r["kind"] == DRAW]
                sizes = sorted({r["samples"] for r in own})
                means = [factor * float(np.mean([r["chance"] for r in own if r["samples"] == n])) for n in sizes]
                ax.plot(sizes, means, "--", color=look["color"], linewidth=1)
        sizes = sorted({r["samples"] for r in rows})
        ax.set_xscale("log", base=2)
        ax.set_xticks(sizes, [str(n) for n in sizes])
        ax.set_xlabel("Samples a task")
        ax.set_ylabel(label)
        ax.set_ylim(0 if field == "overlap" else min(0.0, ax.get_ylim()[0]), 100 * 1.03 if field == "overlap" else 1.03)
    marks = [Line2D([], [], **look, label=method) for method, look in looks.items()]
    kinds: dict[str, Any] = {DRAW: "-", SMALLER: ":", "by chance": "--"}
    marks += [Line2D([], [], color="#555555", linestyle=dashes, label=label) for label, dashes in kinds.items()]
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    figure.legend(handles=marks, loc="outside lower center", ncols=4)
    return figure


def _label(one: Stability, measured: Sequence[Stability]) -> str:
    """Return the method's name, with its file's hash where the method was measured in several ways."""
    same = [other for other in measured if other.method == one.method]
    return one.method if len(same) == 1 else f"{one.method} ({one.name.rsplit('--', 1)[-1]})"


def _larger(a: Mapping[str, int], b: Mapping[str, int]) -> int:
    if set(a) != set(b) or not any(a.values()):
        raise ValueError("two allocations over different blocks, or without an expert, have no overlap")
    return max(sum(a.values()), sum(b.values()))
