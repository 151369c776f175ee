"""Files of a report: written whole, put in place together, and compared with a redraw.

Everything is written into a temporary folder first and then put in place, so that a failure leaves the old report.
Markdown, CSV, LaTeX and the page are compared byte for byte; images only by their presence, since their bytes depend on
the drawing library's build.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from PIL import Image

from reports.figures import style
from reports.figures.canvas import Rows
from reports.render.table import csv_text

CHECKED = (".md", ".csv", ".html", ".tex")
Images = Sequence[str]  # formats to draw figures in: "png", which the Markdown shows, and "svg"
COLOURS = 256  # of a palette


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Open an empty folder to draw into; it takes the place of `folder` when all went well."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".drawing-") as temporary:
        fresh = Path(temporary) / folder.name
        fresh.mkdir()
        yield fresh
        if folder.exists():
            os.rename(folder, Path(temporary) / "old")
        os.rename(fresh, folder)


def compare(fresh: Path, out: Path, images: bool = True) -> list[str]:
    """Compare `out` with `fresh`: what differs, one line a file. images: those that Markdown shows have to exist."""
    new, old = _checked_files(fresh), _checked_files(out)
    differing = [
        f"{name}: {'missing' if name not in old else 'not in a redraw' if name not in new else 'differs'}"
        for name in sorted(new | old)
        if name not in old or name not in new or (fresh / name).read_bytes() != (out / name).read_bytes()
    ]
    shown = {
        (Path(page).parent / name).as_posix()
        for page in new
        if images and page.endswith(".md")
        for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", (fresh / page).read_text(encoding="utf-8"))
    }
    return differing + [f"{name}: missing" for name in sorted(shown) if not (out / name).is_file()]


def write_figure(
    folder: Path, stem: str, rows: Rows | pd.DataFrame, draw: Callable[[], Figure], images: Images
) -> None:
    """Write the plotted numbers as CSV and the figure in each of the wanted formats beside them."""
    write_text(folder / f"{stem}.csv", csv_text(rows))
    if images:
        with matplotlib.rc_context(style.RC):
            write_images(draw(), folder / stem, images)


def write_images(figure: Figure, file: Path, images: Images) -> None:
    """Write the figure in each of the wanted formats, at `file` with the format's suffix."""
    if "png" in images:
        write_png(figure, file.with_name(f"{file.name}.png"))
    if "svg" in images:
        figure.savefig(file.with_name(f"{file.name}.svg"), metadata={"Date": None, "Creator": None})


def write_png(figure: Figure, file: Path) -> None:
    """Encode the figure as a small PNG: with a palette, unless a colour scale has more shades than that holds."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    picture = Image.open(drawn).convert("RGB")
    scales = [image.norm for ax in figure.axes for image in ax.images]
    if all(isinstance(norm, BoundaryNorm) for norm in scales):
        picture = picture.quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(file, optimize=True, dpi=(style.RC["savefig.dpi"],) * 2)


def write_text(path: Path, text: str) -> None:
    r"""Write UTF-8 with "\n" line ends on every system."""
    path.write_text(text, encoding="utf-8", newline="\n")


def _checked_files(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    files = [p for p in folder.rglob("*") if p.suffix in CHECKED and not p.name.startswith(".")]
    return {p.relative_to(folder).as_posix() for p in files}
