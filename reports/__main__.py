"""`python -m reports`: redraw everything from the records, or check that what is committed equals a redraw.

Exit status: 0 all well, 1 a check found a difference, 2 a request that cannot be met (mixed records, unknown names).
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from reports.agree import agree
from reports.analysis import stats
from reports.analysis.groups import load_records
from reports.costs import card, choose, cost, serving
from reports.options import (
    CARD,
    OUT,
    PAPER,
    README,
    Allow,
    Images,
    Records,
    SplitBy,
    Suite,
    Vector,
    by_key,
    existing,
    finish,
    formats,
    keep_committed,
    load_groups,
    load_measured_stability,
    refuse,
    shown,
)
from reports.studies.command import study
from results.store import RECORDS
from results.table import plain_markdown, terminal_table

WIDE = 170  # columns of tables that do not fold
app = typer.Typer(help="Tables and figures from records alone.", add_completion=False, no_args_is_help=False)


class What(StrEnum):
    """What can be exported: frames (reports/frame.py), and files of other programs (reports/exports.py)."""

    records = "records"
    outcomes = "outcomes"
    blocks = "blocks"
    losses = "losses"
    lm_eval = "lm-eval"
    every_eval_ever = "every-eval-ever"


@app.callback(invoke_without_command=True)
def report(
    context: typer.Context,
    records: Records = None,
    out: Annotated[Path, typer.Option(help="Folder to draw into, or to check.", show_default="reports/out/main")] = OUT,
    suite: Suite = None,
    check: Annotated[bool, typer.Option("--check", help="Compare with a redraw; exit 1 on a difference.")] = False,
    split_by: SplitBy = None,
    allow: Allow = None,
    auto_split: Annotated[
        bool, typer.Option("--auto-split", help="Split by whatever may not be mixed, instead of refusing.")
    ] = False,
    columns: Annotated[str | None, typer.Option(help="Columns of the main table: macro,tasks,trainable_params")] = None,
    images: Images = True,
    vector: Vector = False,
) -> None:
    """Redraw every table and figure into a folder a group."""
    if context.invoked_subcommand is not None:
        return
    from reports.render import write as draw  # matplotlib is slow to import and the other commands do without
    from reports.render.tables import main_tables

    keep_committed(records, out, OUT, check)
    groups = load_groups(records, suite, split_by, allow, auto_split)
    chosen = None if columns is None else [c.strip() for c in columns.split(",") if c.strip()]
    if chosen == []:
        refuse("--columns is empty: give some, as in --columns macro,tasks, or leave it away")
    links = draw.record_links(groups, records or [RECORDS], out)
    measured = load_measured_stability(records or [RECORDS])
    studies = "../studies" if out.resolve() == OUT else "studies"  # the committed ones have a folder of their own
    try:
        for group in groups if chosen else ():
            main_tables(group, chosen)  # refuses an unknown column before anything is written
        if check:
            finish(draw.check(groups, out, chosen, links, measured, images, studies), out, "python -m reports")
        folders = draw.draw(groups, out, chosen, formats(images, vector), links, measured, studies)
        if out.resolve() == OUT and records is None and suite is None:
            draw.remove_stale(out, groups)
    except (ValueError, OSError) as error:
        refuse(str(error))
    for folder in folders:
        print(f"{shown(folder)}/main.md")
    if not folders:
        print(f"No record in {', '.join(shown(f) for f in records or [RECORDS])}; wrote {shown(out)}/README.md")
    print(f"{shown(out)}/index.html")


@app.command()
def show(
    records: Records = None,
    keys: Annotated[str | None, typer.Option(help="Keys, separated by commas; default: all.")] = None,
    keys_from: Annotated[Path | None, typer.Option("--keys-from", help="JSON file with a list of keys.")] = None,
    width: Annotated[int | None, typer.Option(help="Characters a line.")] = None,
) -> None:
    """Print the compact table of some records."""
    from reports.render.terminal import terminal

    try:
        wanted = json.loads(keys_from.read_text(encoding="utf-8")) if keys_from else keys and keys.split(",")
        if wanted is not None and not (isinstance(wanted, list) and all(isinstance(k, str) for k in wanted)):
            raise ValueError(
                f"{keys_from}: expected a list of keys" if keys_from else "--keys is empty: give some keys"
            )
    except (OSError, ValueError) as error:
        refuse(str(error))
    folders = existing(records)
    chosen, missing = (load_records(folders), []) if wanted is None else by_key(folders, wanted)
    console = Console(highlight=False)
    # A pipe has no width of its own; a table folded to 80 columns would be hard to read and to search.
    size = width or (console.width if console.is_terminal else 200)
    console = Console(highlight=False, width=size)
    console.print(terminal(chosen, size, bold=console.is_terminal))
    if missing:
        refuse("\n".join(f"no record of {key}" for key in missing))


@app.command()
def export(
    to: Annotated[
        Path, typer.Option("--to", help="File, whose ending says its format: .csv, .parquet, .json; or a folder.")
    ],
    what: Annotated[
        What, typer.Option(help="A row a record, document, block or step; or a folder of another program's files.")
    ] = What.records,
    records: Records = None,
) -> None:
    """Write records as one table (reports/frame.py), or as the files of lm-eval or Every Eval Ever."""
    from reports import exports
    from reports.frame import FRAMES, check_ending, write

    folders = existing(records)
    try:
        if what.value in exports.FOLDERS:
            files = exports.write(what.value, load_records(folders), to)
            print(f"{shown(to)}: {len(files):,} files")
            return
        check_ending(to)
        frame = FRAMES[what.value](*folders)
        write(frame, to)
    except (ValueError, OSError) as error:
        refuse(str(error))
    print(f"{shown(to)}: {len(frame):,} rows, {frame.shape[1]} columns")


@app.command()
def readme(
    check: Annotated[bool, typer.Option("--check", help="Exit 1 when the table is not up to date.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Bring the table up to date.")] = False,
    file: Annotated[Path, typer.Option(help="The file with the markers.", show_default="README.md")] = README,
    group: Annotated[str | None, typer.Option(help="Name of the group to show.")] = None,
    records: Records = None,
    suite: Suite = None,
    split_by: SplitBy = None,
    allow: Allow = None,
) -> None:
    """Keep the README's table equal to the committed records."""
    from reports.analysis.costs.card import read
    from reports.render.costs.card import readme_block
    from reports.render.readme import update

    if check == write:
        refuse("give either --check or --write")
    try:
        card_block = readme_block(read(CARD)) if CARD.is_dir() else "No committed step on a GPU yet.\n"
        current = update(file, load_groups(records, suite, split_by, allow), write, group, card_block)
    except (ValueError, OSError) as error:
        refuse(f"{shown(file)}: {error}")
    if check and not current:
        print(f"{shown(file)}: its table differs from the records; run python -m reports readme --write")
        raise typer.Exit(1)
    print(f"{shown(file)}: {'up to date' if current else 'written'}")


@app.command()
def claims(
    records: Records = None,
    suite: Suite = None,
    split_by: SplitBy = None,
    allow: Allow = None,
) -> None:
    """Print what these records say about the published claims, as Markdown."""
    from reports.analysis.claims import judge, ledger_table, load_claims
    from results.table import markdown

    groups = load_groups(records, suite, split_by, allow)
    try:
        ledger = load_claims()
    except (ValueError, OSError) as error:
        refuse(str(error))
    for group in groups:
        print(markdown(ledger_table(group, judge(group, ledger))))
    if not groups:
        print("No record: every claim is undecidable.")


@app.command()
def paper(
    records: Records = None,
    out: Annotated[Path, typer.Option(help="Folder to draw into.", show_default="reports/out/paper")] = PAPER,
    suite: Suite = None,
    split_by: SplitBy = None,
    allow: Allow = None,
    images: Images = True,
    vector: Vector = False,
    check: Annotated[bool, typer.Option("--check", help="Compare with a redraw; exit 1 on a difference.")] = False,
) -> None:
    """Draw the tables and figures of the LoRA-SMoE paper, each with the records it came from."""
    from reports.render.paper import check_paper, draw_paper

    keep_committed(records, out, PAPER, check)
    groups = load_groups(records, suite, split_by, allow)
    # The committed set stands beside the committed main report and links to it; any other has figures of its own.
    main_report = f"../{OUT.name}" if out.resolve() == PAPER and not split_by else None
    try:
        if check:
            finish(check_paper(groups, out, images, main_report), out, "python -m reports paper")
        folders = draw_paper(groups, out, formats(images, vector), main_report)
    except (ValueError, OSError) as error:
        refuse(str(error))
    for folder in folders:
        print(f"{shown(folder)}/paper.md")
    if not folders:
        print("No record: python -m benchmarks.run --profile paper makes them.")


app.command()(cost)
app.command()(card)
app.command()(serving)
app.command()(choose)
app.command()(study)
app.command()(agree)


@app.command()
def power(
    difference: Annotated[float, typer.Option(help="True difference to be found, in points of the macro mean.")] = 0.5,
    discordance: Annotated[
        float, typer.Option(help="Percent of documents that exactly one of two methods gets right.")
    ] = 15.0,
    seed_deviation: Annotated[float, typer.Option(help="Standard deviation over seeds, in points.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="Size of the two-sided test.")] = stats.ALPHA,
    chance: Annotated[float, typer.Option("--power", help="Wanted chance of finding it.")] = stats.POWER,
    records: Annotated[
        Path | None, typer.Option(help="Instead: what the comparisons of these records could have found, by measure.")
    ] = None,
) -> None:
    """Say how many documents and seeds a claim of this size needs, or what records could have found."""
    from reports.render.power import detectable_table, needed_table, power_text

    if records is not None:
        groups = load_groups([records], None, [], [], True)
        pairs = [(detectable_table(group), needed_table(group)) for group in groups if group.judged]
        tables = [terminal_table(table) for pair in pairs for table in pair if table.rows]
        return Console(width=WIDE).print(*(tables or ["No two finished methods to compare."]))
    try:
        print(power_text(difference, discordance, seed_deviation, alpha, chance))
    except ValueError as error:
        refuse(str(error))


@app.command()
def simulate(replicates: Annotated[int, typer.Option(min=1, help="Evaluations of each cell.")] = 2000) -> None:
    """Simulate how often each test finds a difference that is not there, and one that is: a table in Markdown."""
    from reports.render.power import simulation_table

    print(plain_markdown(simulation_table(replicates)))


if __name__ == "__main__":
    app(prog_name="python -m reports")
