"""One look for every figure: a colour, marker and hatch for each method that never change, readable in grey.

Colours are Okabe and Ito's eight, which stay apart for every common kind of colour blindness (their yellow, too pale
for a line on white, is darkened). With more methods than colours a colour returns with another marker, so that
(colour, marker) still names one method.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

# Known methods in the order of every table and legend; a place gives the look, so that new ones are put at the end.
# An unknown one comes after them and gets its look by its name.
ORDER = (
    "frozen", "lora", "molora", "adalora", "lora-smoe", "mola", "alphalora", "eva-experts", "random-experts",
    "inverse-experts", "smoe-released", "smoe-proportional", "smoe-type", "smoe-global", "hydralora", "dora", "rslora",
    "pissa", "full", "smoe-attention", "smoe-mlp",
)  # fmt: skip
COLOURS = ("#000000", "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8A8A00")
MARKERS = ("o", "s", "^", "D", "*", "v", "P", "X", "<", ">", "h", "d")
DASHES: tuple[str | tuple[int, tuple[int, ...]], ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))

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


def method_rank(method: str) -> tuple[int, str]:
    return (ORDER.index(method) if method in ORDER else len(ORDER), method)


def look(method: str) -> dict[str, Any]:
    """Colour, marker and line style of a method, the same in every figure of every report."""
    # 8 colours and 12 markers make 96 different looks.
    if method in ORDER:
        index = ORDER.index(method)
    else:
        index = len(ORDER) + int(hashlib.sha256(method.encode()).hexdigest(), 16) % (96 - len(ORDER))
    turn = index // len(COLOURS)
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[(index + 5 * turn) % len(MARKERS)],
        "linestyle": DASHES[turn % len(DASHES)],
    }


def ink(background: Sequence[float]) -> str:
    """Black or white, whichever is read more easily on a colour (red, green, blue from 0 to 1)."""
    weights = (0.2126, 0.7152, 0.0722)  # relative luminance; at 0.18 both have the same contrast (WCAG 2)
    return "white" if sum(w * c**2.2 for w, c in zip(weights, background, strict=False)) < 0.18 else "black"


def looks(rows: Iterable[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """{label: look} of (label, method) pairs; further rows of one method keep its colour and change the marker."""
    found: dict[str, dict[str, Any]] = {}
    seen: dict[str, int] = {}
    for label, method in rows:
        extra = seen.get(method, 0)
        seen[method] = extra + 1
        own = look(method)
        if extra:
            own["marker"] = MARKERS[(MARKERS.index(str(own["marker"])) + 5 * extra) % len(MARKERS)]
            own["linestyle"] = DASHES[(DASHES.index(own["linestyle"]) + extra) % len(DASHES)]  # type: ignore[arg-type]
        found[label] = own
    return found


def points_text(value: float) -> str:
    """A difference of two fractions in points, with its sign and a true minus: -0.012 is "−1.2"."""
    return f"{100 * value:+z.1f}".replace("-", "−")
