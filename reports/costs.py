"""`python -m reports cost`, `card`, `serving`, `choose`: what methods cost in training and in use, which to take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from reports.options import (
    CARD,
    CARD_OUT,
    COST,
    COSTS,
    SERVED,
    SERVING_OUT,
    Images,
    Records,
    Suite,
    Vector,
    finish,
    formats,
    load_groups,
    refuse,
    shown,
)
from results.spec import COST as COST_PROTOCOL
from results.spec import SERVING
from results.store import Store
from results.table import terminal_table

WIDE = 170  # columns of tables that do not fold
Check = Annotated[bool, typer.Option("--check", help="Compare with a redraw; exit 1 on a difference.")]


def cost(
    records: Annotated[
        Path, typer.Option(help="Folder of cost records.", show_default="results/records/costs")
    ] = COSTS,
    out: Annotated[
        Path, typer.Option(help="Folder to draw into, or to check.", show_default="reports/out/cost")
    ] = COST,
    images: Images = True,
    vector: Vector = False,
    check: Check = False,
) -> None:
    """How time and memory grow with width, depth, length, experts and rank, beside what arithmetic says."""
    from reports.analysis.costs.cost_laws import laws
    from reports.render.costs.cost import check_costs, draw_costs

    measured = [r for r in Store(records).all() if r.spec.protocol == COST_PROTOCOL and r.status == "done"]
    try:
        fitted = laws(measured)
    except ValueError as error:
        refuse(f"{records.name}: {error}")
    if check:
        finish(check_costs(fitted, measured, out, images), out, "python -m reports cost")
    draw_costs(fitted, measured, out, formats(images, vector))
    print(f"{shown(out)}/cost.md")


def card(
    found: Annotated[
        Path, typer.Option("--pass", help="Folder that a GPU pass left.", show_default="results/records/card")
    ] = CARD,
    out: Annotated[
        Path, typer.Option(help="Folder to draw into, or to check.", show_default="reports/out/card")
    ] = CARD_OUT,
    images: Images = True,
    vector: Vector = False,
    check: Check = False,
) -> None:
    """Draw what a pass over a GPU came to: steps at published shapes, ratios with targets, limits."""
    from reports.analysis.costs.card import read
    from reports.render.costs.card import check_card, draw_card

    try:
        came = read(found)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        refuse(str(error) if isinstance(error, ValueError) else f"{found.name} holds no GPU pass: {error!r}")
    if check:
        finish(check_card(came, out, images), out, "python -m reports card")
    draw_card(came, out, formats(images, vector))
    print(f"{shown(out)}/card.md")


def serving(
    records: Annotated[
        Path, typer.Option(help="Folder of records of the serving suite.", show_default="results/records/serving")
    ] = SERVED,
    out: Annotated[
        Path, typer.Option(help="Folder to draw into, or to check.", show_default="reports/out/serving")
    ] = SERVING_OUT,
    images: Images = True,
    vector: Vector = False,
    check: Check = False,
) -> None:
    """Show what who uses a trained adapter pays: tokens per second and memory, attached and merged, beside the base."""
    from reports.analysis.costs.serving import answers, served
    from reports.render.costs.cost import check_served, draw_served, served_table

    measured = [r for r in Store(records).all() if r.spec.protocol == SERVING and r.status == "done"]
    try:
        rows = served(measured)
    except ValueError as error:
        refuse(f"{records.name}: {error}")
    if check:
        finish(check_served(rows, measured, out, images), out, "python -m reports serving")
    draw_served(rows, measured, out, formats(images, vector))
    shown_rows = [terminal_table(served_table(rows)), *answers(rows)]
    Console(width=WIDE).print(*shown_rows, sep="\n", highlight=False, markup=False)
    print(f"{shown(out)}/serving.md")


def choose(
    max_params: Annotated[str | None, typer.Option(help="Trainable parameters, at most: 10M.")] = None,
    max_memory: Annotated[str | None, typer.Option(help="At the peak of training, at most: 8GB.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Another one than the records': a folder with config.json, 7B, 70B.")
    ] = None,
    records: Records = None,
    suite: Suite = None,
    costs: Annotated[Path, typer.Option(help="Folder of cost records, for --model.", show_default=False)] = COSTS,
) -> None:
    """Say which method to take within limits of parameters and memory, from the records and the cost laws."""
    from reports.analysis.costs import choose as choosing

    groups = [g for g in load_groups(records, suite, None, None, True) if g.finished]
    if not groups:
        refuse("no finished record to choose from: python -m benchmarks.run makes some; name them with --records")
    group = max(groups, key=choosing.weight)
    try:
        params = None if max_params is None else choosing.amount(max_params, "parameters")
        memory = None if max_memory is None else choosing.amount(max_memory, "memory")
        measured = [r for r in Store(costs).all() if r.spec.protocol == COST_PROTOCOL and r.status == "done"]
        shape = None if model is None else choosing.shape_of_model(model, measured)
        made = choosing.choices(
            group, params, memory, shape, choosing.measured_over_counted(measured) if shape else None
        )
    except ValueError as error:
        refuse(str(error))
    print(choosing.chosen_text(group, made))
    Console(width=WIDE).print(terminal_table(choosing.choice_table(group, made, model)), highlight=False)
