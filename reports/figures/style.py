"""One look for every figure: fonts, sizes, the phases' colours and hatches; those of the methods are in the roster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from reports import roster

PHASE_COLOURS = {"load": "#BBBBBB", "allocate": "#E69F00", "train": "#0072B2", "evaluate": "#009E73"}
PHASE_HATCHES = {"load": "", "allocate": "xx", "train": "//", "evaluate": ".."}
# Drawn in this order; each mark juts out from under a later one, so that equal numbers are seen to be several.
PHASE_MARKERS = {"load": "s", "allocate": "D", "train": "X", "evaluate": "^"}

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # shipped with matplotlib, so the same everywhere
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "svg.hashsalt": "reports",  # the same identifiers in every redraw
    "svg.fonttype": "path",
}


def ink(background: Sequence[float]) -> str:
    """Black or white, whichever is read more easily on a colour (red, green, blue from 0 to 1)."""
    weights = (0.2126, 0.7152, 0.0722)  # relative luminance; at 0.18 both have the same contrast (WCAG 2)
    return "white" if sum(w * c**2.2 for w, c in zip(weights, background, strict=False)) < 0.18 else "black"


def looks(rows: Iterable[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """{label: look} of (label, method) pairs: no two have both colour and marker in common.

    Further rows of one method keep its colour where they can and get a marker that no listed method has with it.
    """
    by_label: dict[str, dict[str, Any]] = {}
    listed = {_mark(roster.look(name)) for name in roster.names()}
    used: set[tuple[str, str]] = set()
    for label, method in rows:
        look = by_label[label] = roster.look(method)
        if _mark(look) in used:
            same = [(look["color"], marker) for marker in roster.MARKERS]
            free = (m for m in (*same, *product(roster.COLOURS, roster.MARKERS)) if m not in listed | used)
            turn = roster.DASHES.index(look["linestyle"]) + sum(colour == look["color"] for colour, _ in used)
            look["color"], look["marker"] = next(free, _mark(look))
            look["linestyle"] = roster.DASHES[turn % len(roster.DASHES)]
        used.add(_mark(look))
    return by_label


def _mark(look: dict[str, Any]) -> tuple[str, str]:
    return look["color"], look["marker"]


def points_text(value: float) -> str:
    """Write a difference of two fractions in points, with its sign and a true minus: -0.012 is "−1.2"."""
    return f"{100 * value:+z.1f}".replace("-", "−")
