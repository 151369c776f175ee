"""Write a whole report into a folder, and compare a folder with a redraw.

Everything is written into a temporary folder first and then put in place, so that a failure leaves the old report.
Markdown and CSV are compared byte for byte; images are not, since their bytes depend on the drawing library's build.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import matplotlib

from reports import style
from reports.claims import judge, ledger_table, load_claims
from reports.figures import figures
from reports.groups import Group
from reports.maps import maps
from reports.render import csv_text, html_table, latex, markdown
from reports.tables import main_csv, main_tables, paired_table

CHECKED = (".md", ".csv")


def draw(groups: Sequence[Group], out: Path, columns: Sequence[str] | None = None, images: bool = True) -> list[Path]:
    """Write every group into a folder of its name below `out`, replacing what was there; return these folders."""
    out.mkdir(parents=True, exist_ok=True)
    folders = []
    for group in groups:
        with tempfile.TemporaryDirectory(dir=out, prefix=".drawing-") as temporary:
            fresh = Path(temporary) / group.name
            fresh.mkdir()
            _draw_group(group, fresh, columns, images)
            folder = out / group.name
            if folder.exists():
                os.rename(folder, Path(temporary) / "old")
            os.rename(fresh, folder)
        folders.append(folder)
    _write(out / "README.md", _index(groups))
    return folders


def check(groups: Sequence[Group], out: Path, columns: Sequence[str] | None = None) -> list[str]:
    """What differs between `out` and a redraw, one line a file; empty when nothing does."""
    with tempfile.TemporaryDirectory() as temporary:
        fresh = Path(temporary) / "out"
        draw(groups, fresh, columns, images=False)
        new, old = _checked_files(fresh), _checked_files(out)
        return [
            f"{name}: {'missing' if name not in old else 'not in a redraw' if name not in new else 'differs'}"
            for name in sorted(new | old)
            if name not in old or name not in new or (fresh / name).read_bytes() != (out / name).read_bytes()
        ]


def _draw_group(group: Group, folder: Path, columns: Sequence[str] | None, images: bool) -> None:
    tables = main_tables(group, columns)
    paired, paired_rows = paired_table(group)
    _write(folder / "main.csv", csv_text(main_csv(group)))
    _write(folder / "paired.csv", csv_text(paired_rows))
    drawn = {**figures(group), **maps(group)}
    text = [f"# {group.title}\n", *(markdown(table) for table in [*tables, *paired])]
    if not paired:
        text.append("## Paired differences\n\nNone: there is no finished lora or molora to compare with.\n")
    text += [f"## Figures\n\n{_gallery(list(drawn))}" if drawn else "No figure: no finished record.\n"]
    text += ["## Claims\n\n[What these records say about the published claims](claims.md)\n", _sources(group)]
    _write(folder / "main.md", "\n".join(text))
    _write(folder / "main.html", _page(group.title, "\n".join(html_table(table) for table in [*tables, *paired])))
    _write(folder / "claims.md", markdown(ledger_table(group, judge(group, load_claims()))))
    for i, table in enumerate([*tables, *paired]):
        _write(folder / f"table{i + 1}.tex", latex(table, f"{group.name}-{i + 1}"))
    for stem, (rows, draw_it) in drawn.items():
        _write(folder / f"{stem}.csv", csv_text(rows))
        if images:
            with matplotlib.rc_context(style.RC):
                figure = draw_it()
                figure.savefig(folder / f"{stem}.png", metadata={"Software": None})
                figure.savefig(folder / f"{stem}.svg", metadata={"Date": None})


def _index(groups: Sequence[Group]) -> str:
    lines = [f"- [{g.title}]({g.name}/main.md)" for g in groups]
    return "# Reports\n\nDrawn by `python -m reports` from the records alone.\n\n" + (
        "\n".join(lines) + "\n" if lines else "There is no record yet.\n"
    )


def _gallery(stems: Sequence[str]) -> str:
    return "\n".join(f"![{stem}]({stem}.png)\n\n[numbers]({stem}.csv), [vector]({stem}.svg)\n" for stem in stems)


def _sources(group: Group) -> str:
    commits = sorted({str(r.environment.get("git_commit")) for r in group.records})
    keys = "\n".join(f"- `{r.key}` ({r.status})" for r in sorted(group.records, key=lambda r: r.key))
    return f"## Records\n\nCommit {', '.join(commits)}.\n\n{keys}\n"


def _page(title: str, body: str) -> str:
    look = (
        "body{font:14px system-ui,sans-serif;margin:2rem}table{border-collapse:collapse;margin-bottom:1rem}"
        "caption{text-align:left;font-weight:bold}th,td{padding:.2rem .6rem;border-bottom:1px solid #ddd}"
        ".number{text-align:right}"
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n<style>{look}</style>\n'
        f"{body}</html>\n"
    )


def _checked_files(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    files = [p for p in folder.rglob("*") if p.suffix in CHECKED and not p.name.startswith(".")]
    return {p.relative_to(folder).as_posix() for p in files}


def _write(path: Path, text: str) -> None:
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
