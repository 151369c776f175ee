"""Write the whole report of some groups into a folder, and compare a folder with a redraw."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from reports.analysis.answer import answer
from reports.analysis.claims import judge, ledger_table, load_claims
from reports.analysis.groups import Group
from reports.analysis.measures import measure_rows
from reports.analysis.tuning import tuning_rows, tuning_table
from reports.figures.gallery import figures
from reports.figures.heatmaps import maps
from reports.render.files import Images, compare, replacing, write_figure, write_text
from reports.render.page import page
from reports.render.stability import write_stability
from reports.render.table import csv_text, latex
from reports.render.tables import ablation_table, captioned, main_csv, main_tables, paired_table, short
from reports.render.templating import as_markdown
from reports.render.titles import distinct_titles
from reports.render.verdicts import guess_tables, verdict_rows, verdict_tables
from results.studies.stability import Stability


def draw(
    groups: Sequence[Group],
    out: Path,
    columns: Sequence[str] | None = None,
    images: Images = ("png",),
    links: Mapping[str, str] | None = None,
    stability: Sequence[Stability] = (),
    studies: str = "studies",
) -> list[Path]:
    """Write every group into a folder of its name below `out`, replacing what was there; return these folders.

    The page over all of them is `out`/index.html; links: what `record_links` gave for it.
    studies: where measurements that are no records go, as seen from `out`.
    """
    out.mkdir(parents=True, exist_ok=True)
    folders = []
    for group in groups:
        with replacing(out / group.name) as fresh:
            _draw_group(group, fresh, columns, images)
        folders.append(out / group.name)
    write_text(out / "index.html", page(groups, links or {}, columns))
    if stability:
        write_stability(stability, out / studies, images)
    write_text(out / "README.md", _index(groups, stability, studies))
    return folders


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
    studies: str = "studies",
) -> list[str]:
    """Compare `out` with a redraw: what differs, one line a file; empty when nothing does. images: as for `compare`."""
    with tempfile.TemporaryDirectory() as temporary:
        fresh = Path(temporary) / "out"
        draw(groups, fresh, columns, (), links, stability, studies)
        differing = compare(fresh, out, images)
        if stability and studies.startswith(".."):  # beside `out`, not in it
            differing += [f"{studies}/{line}" for line in compare(fresh / studies, out / studies, images)]
        return differing


def _draw_group(group: Group, folder: Path, columns: Sequence[str] | None, images: Images) -> None:
    tables = [short(group, table) for table in (*main_tables(group, columns), *ablation_table(group))]
    tables += [short(group, table) for table in tuning_table(group)]
    paired, paired_rows = paired_table(group)
    verdicts = [*guess_tables(group), *verdict_tables(group)]
    if group.tuning:
        write_text(folder / "learning-rates.csv", csv_text(tuning_rows(group)))
    write_text(folder / "main.csv", csv_text(main_csv(group)))
    write_text(folder / "paired.csv", csv_text(paired_rows))
    write_text(folder / "verdicts.csv", csv_text(verdict_rows(group)))
    write_text(folder / "measures.csv", csv_text(measure_rows(group.rows, group.tasks)))
    drawn = {**figures(group), **maps(group)}
    text = as_markdown(
        "main.md.j2", group=group, answer=answer(group), tables=[*tables, *verdicts, *paired], paired=paired,
        stems=list(drawn), commits=sorted({str(r.environment.get("git_commit")) for r in group.records}),
        records=sorted(group.records, key=lambda r: r.key),
    )  # fmt: skip
    write_text(folder / "main.md", text)
    ledger = replace(ledger_table(group, judge(group, load_claims())), title="")
    write_text(folder / "claims.md", as_markdown("claims.md.j2", group=group, ledger=ledger))
    for i, table in enumerate([*tables, *verdicts, *paired]):
        write_text(folder / f"table{i + 1}.tex", latex(captioned(group, table), f"{group.name}-{i + 1}"))
    for stem, (rows, draw_it) in drawn.items():
        write_figure(folder, stem, rows, draw_it, images)


def _index(groups: Sequence[Group], measured: Sequence[Stability], studies: str) -> str:
    titles = distinct_titles(groups)
    return as_markdown("index.md.j2", groups=groups, titles=titles, measured=measured, studies=studies)


def remove_stale(out: Path, groups: Sequence[Group]) -> list[Path]:
    """Delete folders of earlier reports (they hold our three main files) whose group is gone; return them."""
    names = {group.name for group in groups}
    drawn = [p.parent for p in sorted(out.glob("*/main.md"))]
    drawn = [f for f in drawn if (f / "main.csv").exists() and (f / "paired.csv").exists()]
    stale = [folder for folder in drawn if folder.name not in names]
    for folder in stale:
        shutil.rmtree(folder)
    return stale
