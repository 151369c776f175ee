"""Write a whole report into a folder, and compare a folder with a redraw.

Everything is written into a temporary folder first and then put in place, so that a failure leaves the old report.
Markdown, CSV, LaTeX and the page are compared byte for byte; images only by their presence, since their bytes depend on
the drawing library's build.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import matplotlib
from matplotlib.figure import Figure

from reports.analysis.claims import judge, ledger_table, load_claims
from reports.analysis.groups import Group
from reports.analysis.tuning import tuning_rows, tuning_table
from reports.figures import style
from reports.figures.canvas import Rows
from reports.figures.heatmaps import maps
from reports.figures.routing import routing
from reports.figures.studies import draw_stability, stability_rows, stability_table
from reports.figures.tradeoff import figures
from reports.render.page import page
from reports.render.table import csv_text, latex
from reports.render.tables import ablation_table, main_csv, main_tables, paired_table
from results.stability import STABILITY, Stability
from results.table import markdown

CHECKED = (".md", ".csv", ".html", ".tex")
IMAGES = (".png",)


def draw(
    groups: Sequence[Group],
    out: Path,
    columns: Sequence[str] | None = None,
    images: bool = True,
    links: Mapping[str, str] | None = None,
    stability: Sequence[Stability] = (),
) -> list[Path]:
    """Write every group into a folder of its name below `out`, replacing what was there; return these folders.

    The page over all of them is `out`/index.html; links: what `record_links` gave for it.
    """
    out.mkdir(parents=True, exist_ok=True)
    folders = []
    for group in groups:
        with replacing(out / group.name) as fresh:
            _draw_group(group, fresh, columns, images)
        folders.append(out / group.name)
    write_text(out / "index.html", page(groups, links or {}, columns))
    if stability:
        _draw_stability(stability, out, images)
    write_text(out / "README.md", _index(groups, stability))
    return folders


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder to draw into; it takes the place of `folder` when all went well."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".drawing-") as temporary:
        fresh = Path(temporary) / folder.name
        fresh.mkdir()
        yield fresh
        if folder.exists():
            os.rename(folder, Path(temporary) / "old")
        os.rename(fresh, folder)


def record_links(groups: Sequence[Group], folders: Sequence[Path], out: Path) -> dict[str, str]:
    """{key: relative URL of the record's file as seen from `out`}; a record in none of the folders is left out."""
    links = {}
    for key in sorted({record.key for group in groups for record in group.records}):
        file = next((f for folder in folders if (f := folder.resolve() / f"{key}.json").is_file()), None)
        with contextlib.suppress(ValueError):  # on another drive: no relative way
            if file is not None:
                links[key] = quote(Path(os.path.relpath(file, out.resolve())).as_posix())
    return links


def check(
    groups: Sequence[Group],
    out: Path,
    columns: Sequence[str] | None = None,
    links: Mapping[str, str] | None = None,
    stability: Sequence[Stability] = (),
    images: bool = True,
) -> list[str]:
    """What differs between `out` and a redraw, one line a file; empty when nothing does. images: as for `compare`."""
    with tempfile.TemporaryDirectory() as temporary:
        fresh = Path(temporary) / "out"
        draw(groups, fresh, columns, images=False, links=links, stability=stability)
        return compare(fresh, out, images)


def compare(fresh: Path, out: Path, images: bool = True) -> list[str]:
    """What differs in `out` from `fresh`, one line a file. images: those that Markdown shows have to exist."""
    new, old = _checked_files(fresh), _checked_files(out)
    found = [
        f"{name}: {'missing' if name not in old else 'not in a redraw' if name not in new else 'differs'}"
        for name in sorted(new | old)
        if name not in old or name not in new or (fresh / name).read_bytes() != (out / name).read_bytes()
    ]
    shown = {
        (Path(page).parent / name).with_suffix(suffix).as_posix()
        for page in new
        if images and page.endswith(".md")
        for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", (fresh / page).read_text(encoding="utf-8"))
        for suffix in IMAGES
    }
    return found + [f"{name}: missing" for name in sorted(shown) if not (out / name).is_file()]


def _draw_group(group: Group, folder: Path, columns: Sequence[str] | None, images: bool) -> None:
    tables = [*main_tables(group, columns), *ablation_table(group), *tuning_table(group)]
    paired, paired_rows = paired_table(group)
    if group.tuning:
        write_text(folder / "learning-rates.csv", csv_text(tuning_rows(group)))
    write_text(folder / "main.csv", csv_text(main_csv(group)))
    write_text(folder / "paired.csv", csv_text(paired_rows))
    drawn = {**figures(group), **maps(group), **routing(group)}
    text = [f"# {group.title}\n", *(markdown(table) for table in [*tables, *paired])]
    if not paired:
        text.append("## Paired differences\n\nNone: there is no finished lora or molora to compare with.\n")
    text += [f"## Figures\n\n{_gallery(list(drawn))}" if drawn else "No figure: no finished record.\n"]
    text += ["## Claims\n\n[What these records say about the published claims](claims.md)\n", _sources(group)]
    write_text(folder / "main.md", "\n".join(text))
    write_text(folder / "claims.md", markdown(ledger_table(group, judge(group, load_claims()))))
    for i, table in enumerate([*tables, *paired]):
        write_text(folder / f"table{i + 1}.tex", latex(table, f"{group.name}-{i + 1}"))
    for stem, (rows, draw_it) in drawn.items():
        write_figure(folder, stem, rows, draw_it if images else None)


def write_figure(folder: Path, stem: str, rows: Rows, draw_it: Callable[[], Figure] | None) -> None:
    """The plotted numbers as CSV and, where it is to be drawn, the figure as PNG beside them."""
    write_text(folder / f"{stem}.csv", csv_text(rows))
    if draw_it is not None:
        with matplotlib.rc_context(style.RC):
            figure = draw_it()
            figure.savefig(folder / f"{stem}.png", metadata={"Software": None})


def _draw_stability(measured: Sequence[Stability], out: Path, images: bool) -> None:
    """The folder `out`/stability: how much of each allocation survives another probe."""
    rows = stability_rows(measured)
    title = "Allocation stability: " + ", ".join(sorted({f"{m.suite}, {m.model.rsplit('/', 1)[-1]}" for m in measured}))
    folder = out / STABILITY.name
    folder.mkdir(exist_ok=True)
    write_figure(folder, "stability", rows, (lambda: draw_stability(rows, title)) if images else None)
    sources = "\n".join(f"- `{m.name}` (commit {m.environment.get('git_commit')})" for m in measured)
    table = markdown(stability_table(rows, title))
    write_text(folder / "stability.md", f"{table}\n{_gallery(['stability'])}\n## Measurements\n\n{sources}\n")


def _index(groups: Sequence[Group], measured: Sequence[Stability]) -> str:
    lines = ["[One page with everything](index.html), to be opened in a browser.\n"] if groups else []
    lines += [f"- [{g.title}]({g.name}/main.md)" for g in groups]
    lines += ["- [Allocation stability](stability/stability.md)"] if measured else []
    return "# Reports\n\nDrawn by `python -m reports` from the records alone.\n\n" + (
        "\n".join(lines) + "\n" if lines else "There is no record yet.\n"
    )


def _gallery(stems: Sequence[str]) -> str:
    return "\n".join(f"![{stem}]({stem}.png)\n\n[numbers]({stem}.csv)\n" for stem in stems)


def _sources(group: Group) -> str:
    commits = sorted({str(r.environment.get("git_commit")) for r in group.records})
    keys = "\n".join(f"- `{r.key}` ({r.status})" for r in sorted(group.records, key=lambda r: r.key))
    return f"## Records\n\nCommit {', '.join(commits)}.\n\n{keys}\n"


def _checked_files(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    files = [p for p in folder.rglob("*") if p.suffix in CHECKED and not p.name.startswith(".")]
    return {p.relative_to(folder).as_posix() for p in files}


def write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def remove_stale(out: Path, groups: Sequence[Group]) -> list[Path]:
    """Delete folders of earlier reports (they hold our three main files) whose group is gone; return them."""
    names = {group.name for group in groups}
    drawn = [p.parent for p in sorted(out.glob("*/main.md"))]
    drawn = [f for f in drawn if (f / "main.csv").exists() and (f / "paired.csv").exists()]
    stale = [folder for folder in drawn if folder.name not in names]
    for folder in stale:
        shutil.rmtree(folder)
    return stale
