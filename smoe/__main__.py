"""Score, allocate and look, without the harness: `python -m smoe sensitivity | allocate | show`.

    python -m smoe sensitivity MODEL samples.jsonl --out scores.json      # lines of {"task", "prompt", "answer"}
    python -m smoe allocate scores.json --mean 4 --out experts.json       # the authors' flat JSON
    python -m smoe show experts.json --png experts.png                    # layers x projections, also of scores.json
    python -m smoe show scores.json --spread                              # how sure the scores are

An interrupted `sensitivity` leaves its finished tasks beside `--out`; the same command goes on from there.
`SMoEConfig(expert_pattern=smoe.load_flat("experts.json"))` takes it from there. This file alone reads data and draws.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.style import Style
from rich.table import Table
from rich.text import Text

from smoe.allocation import GROUPINGS, RULES, Budget, allocate, load_flat, save_flat
from smoe.heatmap import Grid, colour, grid_of
from smoe.sensitivity import MODES, Sensitivity, sensitivity
from smoe.tokens import scored_tokens

app = typer.Typer(add_completion=False, no_args_is_help=True, help="LoRA-SMoE: sensitivity, allocation, heat maps.")
console = Console()
ScoresFile = Annotated[Path, typer.Argument(help="what `sensitivity` wrote")]


@app.command("sensitivity")
def score(
    model: Annotated[str, typer.Argument(help="folder or hub id of a causal language model with its tokenizer")],
    data: Annotated[Path, typer.Argument(help='JSONL of {"task": ..., "prompt": ..., "answer": ...}')],
    out: Annotated[Path, typer.Option(help="where the artefact goes")] = Path("scores.json"),
    samples: Annotated[int, typer.Option(min=1, help="samples per task, drawn with --seed")] = 8,
    seed: Annotated[int, typer.Option(help="of the draw")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="changes speed and memory, not scores")] = 4,
    max_length: Annotated[int, typer.Option(min=2, help="tokens; prompts are cut from the left, answers never")] = 512,
    mode: Annotated[str, typer.Option(help="paper: the formula; released: as the released code measures")] = "paper",
    targets: Annotated[str, typer.Option(help="comma-separated block names, or all-linear")] = "",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16")] = "float32",
    device: Annotated[str, typer.Option(help="cpu or cuda; default: cuda where there is one")] = "",
) -> None:
    """Score every block of a model on a few samples of each task."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from smoe.blocks import ALL_LINEAR, block_shapes

    # What would fail late is asked before a model is loaded.
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f"dtype {dtype!r} is not one of float32, bfloat16")
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} is not one of {', '.join(MODES)}")
    device = usable_device(device)
    out.parent.mkdir(parents=True, exist_ok=True)
    drawn = draw(read_lines(data), samples, seed)
    tokenizer = AutoTokenizer.from_pretrained(model)
    probe = {task: tokenised(rows, tokenizer, batch_size, max_length) for task, rows in drawn.items()}
    network: Any = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype))
    network.to(device)
    wanted = targets if targets in ("", ALL_LINEAR) else [name.strip() for name in targets.split(",")]
    facts: dict[str, Any] = {"seed": seed, "dtype": dtype, "shapes": block_shapes(network, wanted or None)}
    unfinished = out.with_name(out.name + ".part")
    earlier = Sensitivity.load(unfinished) if unfinished.exists() else None
    if earlier:
        known = ", ".join(earlier.values)
        console.print(f"{unfinished} has {known} already; delete it to score all tasks anew", markup=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        step = bar.add_task("samples", total=sum(map(len, drawn.values())))
        try:
            measured = sensitivity(
                network,
                probe,
                target_modules=wanted or None,
                mode=mode,
                metadata=facts,
                progress=lambda done, total: bar.update(step, completed=done, total=total),
                resume=earlier,
                after_task=lambda finished: finished.save(unfinished),
            )
        except KeyboardInterrupt:
            if unfinished.exists():
                console.print(f"finished tasks are in {unfinished}: the same command goes on from there", markup=False)
            raise
    measured.save(out)
    unfinished.unlink(missing_ok=True)
    console.print(f"scores of {len(facts['shapes'])} blocks on {len(probe)} tasks: {out}", markup=False)


def usable_device(device: str) -> str:
    """Return the device asked for, or the one there is for "". Raises ValueError where it cannot be used."""
    import torch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r} cannot be used: {error}") from error
    return device


@app.command("allocate")
def hand_out(
    scores: ScoresFile,
    out: Annotated[Path, typer.Option(help="flat JSON of block: experts")] = Path("experts.json"),
    mean: Annotated[float | None, typer.Option(help="budget: mean experts per block")] = None,
    total: Annotated[int | None, typer.Option(help="budget: experts in all")] = None,
    params: Annotated[int | None, typer.Option(help="budget: trainable parameters, routers included")] = None,
    rule: Annotated[str, typer.Option(help=" | ".join(RULES))] = "votes",
    grouping: Annotated[str, typer.Option(help=" | ".join(GROUPINGS))] = "attention-mlp",
    min_experts: Annotated[int, typer.Option(min=0)] = 0,
    max_experts: Annotated[int | None, typer.Option(min=1)] = None,
    r: Annotated[int, typer.Option(min=1, help="rank, for a budget in parameters")] = 8,
) -> None:
    """Turn scores into experts per block under a budget."""
    measured = Sensitivity.load(scores)
    shapes = measured.metadata.get("shapes")
    experts = allocate(
        measured.scores,
        budget=Budget(mean_experts=mean, total_experts=total, trainable_params=params),
        rule=rule,
        grouping=grouping,
        min_experts=min_experts,
        max_experts=max_experts,
        shapes=shapes and {block: (shape[0], shape[1]) for block, shape in shapes.items()},
        r=r,
    )
    save_flat(out, experts)
    counts = sorted(set(experts.values()))
    table = Table("experts", "blocks", title=f"{sum(experts.values())} experts in {len(experts)} blocks: {out}")
    for count in counts:
        table.add_row(str(count), str(sum(value == count for value in experts.values())))
    console.print(table)


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="scores of `sensitivity` or experts of `allocate`")],
    png: Annotated[Path | None, typer.Option(help="also draw to this file (needs matplotlib)")] = None,
    task: Annotated[str, typer.Option(help="one task of a scores file; default: all, each normalised")] = "",
    spread: Annotated[bool, typer.Option("--spread", help="draw the scores' relative standard errors instead")] = False,
) -> None:
    """Draw a heat map, layers by projections, of scores or of experts.

    The line under a map of scores is the median relative standard error of each column.
    """
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # also where the bytes are no text
        raise ValueError(f"{file} is not JSON: {error}") from error
    if isinstance(body, dict) and "format" in body:
        grids = grids_of(Sensitivity.load(file), task, spread)
    elif task or spread:
        raise ValueError(f"{file} holds experts: --task and --spread are for what `sensitivity` wrote")
    else:
        grids = [grid_of(load_flat(file), "experts per block", "experts", whole=True)]
    for grid in grids:
        draw_terminal(grid)
    if png is not None:
        draw_png(grids, png)
        console.print(f"drawn: {png}", markup=False)


def grids_of(measured: Sensitivity, task: str, spread: bool) -> list[Grid]:
    """One heat map for each task (or the one): of scores with their errors, or of the errors."""
    if task and task not in measured.scores:
        raise ValueError(f"task {task!r} has no scores; those that have: {', '.join(measured.scores)}")
    chosen = [task] if task else list(measured.scores)
    errors = {t: grid_of(measured.relative_error[t], f"relative error, {t}", "standard error / score") for t in chosen}
    if not spread:
        unit = "mean squared gradient norm"
        return [grid_of(measured.scores[t], f"sensitivity, {t}", unit, errors=errors[t].medians()) for t in chosen]
    if unknown := [t for t, grid in errors.items() if not grid.largest]:
        raise ValueError(f"no spread over one sample, or of scores of 0: {', '.join(unknown)}")
    return list(errors.values())


def read_lines(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Read JSONL to task -> [(prompt, answer)]. Raises ValueError naming the line that is wrong."""
    samples: dict[str, list[tuple[str, str]]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: not JSON: {error}") from error
        names = ("task", "prompt", "answer")
        if not isinstance(row, dict) or not all(isinstance(row.get(n), str) and row[n] for n in names):
            raise ValueError(f"{path}, line {number}: needs the non-empty strings {', '.join(names)}")
        samples.setdefault(row["task"], []).append((row["prompt"], row["answer"]))
    if not samples:
        raise ValueError(f"{path} has no samples")
    return samples


def draw(rows: dict[str, list[tuple[str, str]]], samples: int, seed: int) -> dict[str, list[tuple[str, str]]]:
    """Draw up to `samples` of each task; a task's draw does not depend on the other tasks."""
    return {task: random.Random(f"{seed} {task}").sample(all_, min(samples, len(all_))) for task, all_ in rows.items()}


def tokenised(rows: list[tuple[str, str]], tokenizer: Any, size: int, max_length: int) -> list[dict[str, Any]]:
    """Make right-padded batches with -100 in place of the prompt's labels."""
    import torch

    pairs = []
    for prompt, answer in rows:
        pair = scored_tokens(tokenizer, prompt, answer)
        try:
            pairs.append((pair.cut(max_length), len(pair.answer)))
        except ValueError as error:
            raise ValueError(f"{error}: {answer[:60]!r}; ask for more with --max-length") from error
    batches = []
    for start in range(0, len(pairs), size):
        chunk = pairs[start : start + size]
        width = max(len(tokens) for tokens, _ in chunk)
        ids = torch.zeros(len(chunk), width, dtype=torch.long)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
        for row, (tokens, answered) in enumerate(chunk):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
            labels[row, len(tokens) - answered : len(tokens)] = torch.tensor(tokens[-answered:])
        batches.append({"input_ids": ids, "attention_mask": mask, "labels": labels})
    return batches


def draw_terminal(grid: Grid) -> None:
    """Print one line a layer."""
    console.print(Text(grid.title + ("" if grid.whole else ", colours on a log scale"), style="bold"))
    names = [column.removesuffix("_proj")[:9] for column in grid.columns]
    console.print(Text("layer " + "".join(f"{name:^10}" for name in names)))
    for row, values in zip(grid.rows, grid.values, strict=True):
        line = Text(f"{row:>5} ")
        for value in values:
            if value is None:
                line.append(" " * 10)
                continue
            red, green, blue = colour(grid.share(value))
            front = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 110 else "white"
            text = f"{value:g}" if grid.whole else f"{value:.2g}"
            line.append(f"{text:^10}", Style(color=front, bgcolor=f"rgb({red},{green},{blue})"))
        console.print(line, soft_wrap=True)
    if any(grid.errors):
        shares = (" " * 10 if error is None else f"{f'± {error:.0%}':^10}" for error in grid.errors)
        console.print(Text("error " + "".join(shares)), soft_wrap=True)


def draw_png(grids: list[Grid], path: Path) -> None:
    """Draw the heat maps side by side."""
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.figure import Figure

    height = max(len(grid.rows) for grid in grids)
    size = (max(len(g.columns) for g in grids) * 0.55 * len(grids) + 1.5, height * 0.22 + 1.8)
    figure = Figure(figsize=(max(size[0], 4), max(size[1], 3)), layout="constrained")
    for axis, grid in zip(figure.subplots(1, len(grids), squeeze=False)[0], grids, strict=True):
        numbers = [[float("nan") if v is None else v for v in row] for row in grid.values]
        scale: Normalize = Normalize(0, max(grid.largest, 1))
        if not grid.whole and grid.smallest < grid.largest:
            scale = LogNorm(grid.smallest, grid.largest)
        image = axis.imshow(numbers, aspect="auto", cmap="viridis", norm=scale)
        axis.set_title(grid.title, fontsize=9)
        axis.set_xticks(range(len(grid.columns)), grid.columns, rotation=60, ha="right", fontsize=7)
        axis.set_yticks(range(len(grid.rows)), grid.rows, fontsize=6)
        axis.set_ylabel("layer")
        bar = figure.colorbar(image, ax=axis, label=grid.unit)
        if grid.whole:
            bar.set_ticks(list(range(round(grid.largest) + 1)))
    figure.savefig(path, dpi=150)


def main() -> None:
    """Run the command line; an error of the user is one line and exit status 2."""
    try:
        app()
    except (ValueError, OSError, ImportError) as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False, highlight=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
