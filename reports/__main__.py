"""`python -m reports`: redraw everything from the records, or check that what is committed equals a redraw.

Exit status: 0 all well, 1 a check found a difference, 2 a request that cannot be met (mixed records, unknown names).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from reports.analysis import stats
from reports.analysis.groups import Group, MixedError, load_records, make_groups
from results.adapters import joined
from results.stability import STABILITY, Stability
from results.store import RECORDS, Store

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "reports" / "out" / "main"
PAPER = ROOT / "reports" / "out" / "paper"
COST = ROOT / "reports" / "out" / "cost"
COSTS = ROOT / "results" / "records" / "costs"
README = ROOT / "README.md"

app = typer.Typer(help="Tables and figures from records alone.", add_completion=False, no_args_is_help=False)

Records = Annotated[list[Path] | None, typer.Option("--records", help="Folder of records; may be given again.")]
Suite = Annotated[str | None, typer.Option(help="Only this suite.")]
SplitBy = Annotated[list[str] | None, typer.Option("--split-by", help="One report for each value of this field.")]
Allow = Annotated[list[str] | None, typer.Option("--allow", help="Field that may differ within a table.")]
Images = Annotated[bool, typer.Option(help="Draw figures, not only their numbers.")]
Vector = Annotated[bool, typer.Option("--vector", help="Draw every figure as SVG too, for print.")]


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

    _keep_committed(records, out, OUT, check)
    groups = _groups(records, suite, split_by, allow, auto_split)
    chosen = None if columns is None else [c.strip() for c in columns.split(",") if c.strip()]
    links = draw.record_links(groups, records or [RECORDS], out)
    measured = _stability(records or [RECORDS])
    studies = "../studies" if out.resolve() == OUT else "studies"  # the committed ones have a folder of their own
    try:
        if check:
            _finish(draw.check(groups, out, chosen, links, measured, images, studies), out, "python -m reports")
        folders = draw.draw(groups, out, chosen, _formats(images, vector), links, measured, studies)
        if out.resolve() == OUT and records is None and suite is None:
            draw.remove_stale(out, groups)
    except (ValueError, OSError) as error:
        _refuse(str(error))
    for folder in folders:
        print(f"{_shown(folder)}/main.md")
    if not folders:
        print(f"No record in {', '.join(_shown(f) for f in records or [RECORDS])}; wrote {_shown(out)}/README.md")
    print(f"{_shown(out)}/index.html")


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
        wanted = json.loads(keys_from.read_text(encoding="utf-8")) if keys_from else keys.split(",") if keys else None
        if wanted is not None and not (isinstance(wanted, list) and all(isinstance(k, str) for k in wanted)):
            raise ValueError(f"{keys_from}: expected a list of keys")
    except (OSError, ValueError) as error:
        _refuse(str(error))
    folders = records or [RECORDS]
    if wanted is None:
        found = load_records(folders)
    else:
        stores = [Store(folder) for folder in folders]
        loaded = [next((r for s in stores if (r := s.load(key.strip())) is not None), None) for key in wanted]
        found = joined(record for record in loaded if record is not None)
        for key in [key for key, record in zip(wanted, loaded, strict=True) if record is None]:
            print(f"no record of {key}", file=sys.stderr)
    console = Console(highlight=False)
    # A pipe has no width of its own; a table folded to 80 columns would be hard to read and to search.
    size = width or (console.width if console.is_terminal else 200)
    console = Console(highlight=False, width=size)
    console.print(terminal(found, size, bold=console.is_terminal))


@app.command()
def readme(
    check: Annotated[bool, typer.Option("--check", help="Exit 1 when the table is not up to date.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Bring the table up to date.")] = False,
    file: Annotated[Path, typer.Option(help="The file with the markers.", show_default="README.md")] = ROOT
    / "README.md",
    group: Annotated[str | None, typer.Option(help="Name of the group to show.")] = None,
    records: Records = None,
    suite: Suite = None,
    split_by: SplitBy = None,
    allow: Allow = None,
) -> None:
    """Keep the README's table equal to the committed records."""
    from reports.render.readme import update

    if check == write:
        _refuse("give either --check or --write")
    try:
        current = update(file, _groups(records, suite, split_by, allow), write, group)
    except (ValueError, OSError) as error:
        _refuse(f"{_shown(file)}: {error}")
    if check and not current:
        print(f"{_shown(file)}: its table differs from the records; run python -m reports readme --write")
        raise typer.Exit(1)
    print(f"{_shown(file)}: {'up to date' if current else 'written'}")


@app.command()
def claims(
    records: Records = None,
    suite: Suite = None,
    split_by: SplitBy = None,
    allow: Allow = None,
) -> None:
    """What these records say about the published claims, as Markdown."""
    from reports.analysis.claims import judge, ledger_table, load_claims
    from results.table import markdown

    groups = _groups(records, suite, split_by, allow)
    try:
        ledger = load_claims()
    except (ValueError, OSError) as error:
        _refuse(str(error))
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
    """The set of tables and figures of the LoRA-SMoE paper, each with the records it came from."""
    from reports.render.paper import check_paper, draw_paper

    _keep_committed(records, out, PAPER, check)
    groups = _groups(records, suite, split_by, allow)
    # The committed set stands beside the committed main report and links to it; any other has figures of its own.
    main_report = f"../{OUT.name}" if out.resolve() == PAPER and not split_by else None
    try:
        if check:
            _finish(check_paper(groups, out, images, main_report), out, "python -m reports paper")
        folders = draw_paper(groups, out, _formats(images, vector), main_report)
    except (ValueError, OSError) as error:
        _refuse(str(error))
    for folder in folders:
        print(f"{_shown(folder)}/paper.md")
    if not folders:
        print("No record: python -m benchmarks.run --profile paper makes them.")


@app.command()
def cost(
    records: Annotated[
        Path, typer.Option(help="Folder of cost records.", show_default="results/records/costs")
    ] = COSTS,
    out: Annotated[
        Path, typer.Option(help="Folder to draw into, or to check.", show_default="reports/out/cost")
    ] = COST,
    images: Images = True,
    vector: Vector = False,
    check: Annotated[bool, typer.Option("--check", help="Compare with a redraw; exit 1 on a difference.")] = False,
) -> None:
    """How time and memory grow with width, depth, length, experts and rank, beside what arithmetic says."""
    from reports.analysis.cost_laws import laws
    from reports.render.cost import check_costs, draw_costs

    measured = [r for r in Store(records).all() if not r.spec.scored and r.status == "done"]
    try:
        fitted = laws(measured)
    except ValueError as error:
        _refuse(f"{records.name}: {error}")
    if check:
        _finish(check_costs(fitted, measured, out, images), out, "python -m reports cost")
    draw_costs(fitted, measured, out, _formats(images, vector))
    print(f"{_shown(out)}/cost.md")


@app.command()
def power(
    difference: Annotated[float, typer.Option(help="True difference to be found, in points of the macro mean.")] = 0.5,
    discordance: Annotated[
        float, typer.Option(help="Percent of documents that exactly one of two methods gets right.")
    ] = 15.0,
    seed_deviation: Annotated[float, typer.Option(help="Standard deviation over seeds, in points.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="Size of the two-sided test.")] = stats.ALPHA,
    chance: Annotated[float, typer.Option("--power", help="Wanted chance of finding it.")] = stats.POWER,
) -> None:
    """How many documents and seeds a claim of this size needs."""
    from reports.render.power import power_text

    try:
        print(power_text(difference, discordance, seed_deviation, alpha, chance))
    except ValueError as error:
        _refuse(str(error))


def _formats(images: bool, vector: bool) -> tuple[str, ...]:
    """The formats that figures are drawn in."""
    return (("png", "svg") if vector else ("png",)) if images else ()


def _keep_committed(records: list[Path] | None, out: Path, committed: Path, check: bool) -> None:
    """Other records are not drawn over the committed report."""
    if records is not None and not check and out.resolve() == committed:
        _refuse(
            f"--records without --out would draw over {_shown(committed)}; say where with --out {records[0]}/report"
        )


def _groups(
    records: list[Path] | None,
    suite: str | None,
    split_by: list[str] | None,
    allow: list[str] | None,
    auto_split: bool = False,
) -> list[Group]:
    for folder in records or []:
        if not folder.is_dir():
            _refuse(f"no folder {folder}")
    try:
        return make_groups(load_records(records or [RECORDS], suite), split_by or (), allow or (), auto_split)
    except (MixedError, ValueError) as error:
        _refuse(str(error))


def _stability(folders: list[Path]) -> list[Stability]:
    """The committed measurements for the committed records; for others those in a folder below."""
    from reports.figures.stability import load_stability

    own = [STABILITY if folder.resolve() == RECORDS else folder / STABILITY.name for folder in folders]
    try:
        return [m for folder in own for m in load_stability(folder)]
    except ValueError as error:
        _refuse(str(error))


def _finish(problems: list[str], out: Path, command: str) -> NoReturn:
    """The end of a check."""
    for problem in problems:
        print(f"{_shown(out)}/{problem}")
    if problems:
        print(f"Redraw with: {command}")
    raise typer.Exit(1 if problems else 0)


def _shown(path: Path) -> str:
    """Relative to here where that is shorter to read."""
    path = path.resolve()
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _refuse(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    raise typer.Exit(2)


if __name__ == "__main__":
    app(prog_name="python -m reports")
