"""A number per block as a table of layers by projections, and its colours: what the command line's `show` draws."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from smoe.blocks import place

# From dark to light, as in matplotlib's "viridis", which the PNG uses.
PALETTE = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))


@dataclass(frozen=True)
class Grid:
    """Values by layer (row) and projection (column); None where a layer has no such block."""

    title: str
    unit: str
    rows: list[str]
    columns: list[str]
    values: list[list[float | None]]
    whole: bool  # experts, coloured in proportion; else scores, which span orders of magnitude, by their logarithm
    errors: Sequence[float | None]  # relative error of each column, where there is one

    @property
    def largest(self) -> float:
        return max((v for row in self.values for v in row if v is not None), default=0.0)

    @property
    def smallest(self) -> float:
        """The smallest positive value; 0 where there is none."""
        return min((v for row in self.values for v in row if v), default=0.0)

    def medians(self) -> list[float | None]:
        """Median of each column; None where it is empty."""
        filled = [[v for v in column if v is not None] for column in zip(*self.values, strict=True)]
        return [statistics.median(column) if column else None for column in filled]

    def share(self, value: float) -> float:
        """Place a value between the colours of the palette, in [0, 1]."""
        if value <= 0 or self.largest == self.smallest:
            return float(value > 0)
        if self.whole:
            return value / self.largest
        return math.log(value / self.smallest) / math.log(self.largest / self.smallest)


def grid_of(
    values: Mapping[str, float | None],
    title: str,
    unit: str = "",
    whole: bool = False,
    errors: Sequence[float | None] = (),
) -> Grid:
    """Arrange blocks: a row for each layer, a column for each projection."""
    cells: dict[str, dict[str, float | None]] = {}
    columns: dict[str, None] = {}
    for block, value in values.items():
        layer, column = place(block)
        row = str(layer)
        if layer is None:  # outside the layers: a row of its own, in a column of its own
            row, column = "-", block
        elif column in cells.get(row, {}):  # several experts of a mixture share the last part of their name
            column = f".{block}".partition(f".{row}.")[2]
        cells.setdefault(row, {})[column] = value
        columns.setdefault(column)
    rows = sorted(cells, key=lambda row: (not row.isdigit(), int(row) if row.isdigit() else 0))
    numbers = [[cells[row].get(c) for c in columns] for row in rows]
    return Grid(title, unit, rows, list(columns), numbers, whole, errors)


def colour(share: float) -> tuple[int, int, int]:
    """Linear between the palette's colours, share in [0, 1]."""
    place = min(max(share, 0.0), 1.0) * (len(PALETTE) - 1)
    low = min(int(place), len(PALETTE) - 2)
    mixed = [round(a + (b - a) * (place - low)) for a, b in zip(PALETTE[low], PALETTE[low + 1], strict=True)]
    return mixed[0], mixed[1], mixed[2]
