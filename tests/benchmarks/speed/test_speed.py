"""The harness of the speed ratios, at toy sizes: no figure here says anything about speed."""

from __future__ import annotations

import json
import math
from functools import cache

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.jobs.child import attempt
from benchmarks.speed import evaluation, jobs, layer, memory, ratios, routers, scoring, serving
from benchmarks.speed.__main__ import app
from benchmarks.speed.ratios import SideBySide, Subject, Target, ratio, table
from benchmarks.speed.scoring import StandIn
from benchmarks.speed.setting import Setting
from benchmarks.speed.step import compiled, limits, parts, roofline, training
from benchmarks.speed.subjects import SUBJECTS

TOY = Setting(model="tiny", dtype="float32", width=32, tokens=16, effort=0.05)


def targets(device):
    modules = (layer, limits, training, routers, scoring, evaluation, jobs, serving, parts, roofline, compiled)
    return [target for module in modules for target in module.targets(device)] + scoring.share_targets(device)


@pytest.fixture
def one_process(monkeypatch):
    """Start no processes: they take seconds each. Compile nothing, profile nothing, account for one method."""
    account = cache(lambda file: parts.account("lora-smoe", file))
    mains = {"benchmarks.speed.memory": memory.peak, "benchmarks.speed.step.parts": lambda name, file: account(file)}
    processes = memory.subprocess.run

    def run(command, **options):
        if command[2] not in mains:  # git's
            return processes(command, **options)
        return Done(json.dumps(mains[command[2]](*command[3:])))

    monkeypatch.setattr(memory.subprocess, "run", run)
    monkeypatch.setattr(jobs, "measured_job", attempt)
    monkeypatch.setattr(roofline, "causes", lambda work, device: dict.fromkeys(roofline.CAUSES, 0.2))
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)


class Done:
    def __init__(self, stdout: str) -> None:
        self.stdout = stdout


def test_every_target_is_measured_and_named_in_the_table(one_process, tmp_path):
    options = ["--model", "tiny", "--dtype", "float32", "--width", "32", "--tokens", "16", "--effort", "0.05"]
    out = tmp_path / "speed"
    result = CliRunner().invoke(app, [*options, "--out", str(out)], catch_exceptions=False)
    rows = json.loads((out / "speed.json").read_text())["ratios"]
    assert [row["name"] for row in rows] == [t.name for t in targets("cpu")]
    assert all(math.isfinite(row["value"]) and row["value"] > 0 for row in rows)
    assert all((row["met"] is None) == (row["bound"] is None) for row in rows)
    page = (out / "speed.md").read_text()
    assert all(t.name in result.output and t.name in page for t in targets("cpu"))
    tables = json.loads((out / "speed.json").read_text())["tables"]
    assert [t["title"] for t in tables] == [limits.TITLE, parts.TITLE, roofline.TITLE]
    assert all(f"## {t['title']}" in page and t["title"] in result.output for t in tables)


BOUNDS = {  # what was promised; the GPU's where it differs
    "layer: time of SMoE / PEFT LoRA r=8": ("at most", 1.15),
    "layer: time of loop over experts / SMoE": ("at least", {"cpu": 1.5, "cuda": 3}),
    "training step: time of LoRA-SMoE / LoRA": ("at most", 1.15),
    "training step: peak memory of LoRA-SMoE / LoRA": ("at most", 1.05),
    "sensitivity: time per sample and block, one block at a time / ours": ("at least", 50),
    "sensitivity: peak memory / LoRA training step": ("at most", 1.0),
    "evaluation, bfloat16: time of lm-eval / shared prefixes": ("at least", 2.5),
    "evaluation, bfloat16: peak memory of shared prefixes / lm-eval": ("at most", 0.4),
    "evaluation, float32: time of lm-eval / shared prefixes": ("at least", 1.6),
    "evaluation, float32: peak memory of shared prefixes / lm-eval": ("at most", 0.4),
    "job: time around its phases, data made once a run / anew": ("at most", 0.5),
    "job: estimate from its repeats / measured, the larger over the smaller": ("at most", 1.3),
    "serving, batch 1: time of LoRA merged / base": ("at most", 1.05),
    "serving, batch 8: time of LoRA merged / base": ("at most", 1.05),
    "training step of lora-smoe: FLOP/s / its matrix products' alone": ("at least", 0.7),
    "training: padding / tokens of a default run": ("at most", 0.05),
    **{f"router {n}: time of the layers / with the soft router": ("at most", 1.15) for n in routers.ROUTERS},
    "sensitivity: whole pass / training of --profile full": ("at most", 0.05),
}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_targets_are_those_that_were_promised(device):
    found = {t.name: ("at most" if t.at_most else "at least", t.bound) for t in targets(device)}
    for name, (direction, bound) in BOUNDS.items():
        assert found[name] == (direction, bound[device] if isinstance(bound, dict) else bound)


@pytest.mark.parametrize(("factor", "at_most", "at_least"), [(0.9, "met", "missed"), (1.0, "met", "met"), (1.1, "missed", "met")])  # fmt: skip  # noqa: E501
def test_a_record_of_made_up_measurements_has_every_row_with_its_verdict(
    tmp_path, monkeypatch, factor, at_most, at_least
):
    made_up = [ratio(t, [factor * (t.bound or 1)] * 3, "made up") for t in targets("cpu")]
    monkeypatch.setitem(SUBJECTS, "layer", lambda setting: Subject(SideBySide({}, "cpu"), 0, lambda: made_up))
    result = CliRunner().invoke(app, ["--only", "layer", "--out", str(tmp_path / "new")], catch_exceptions=False)
    assert result.exit_code == 0
    body = json.loads((tmp_path / "new" / "speed.json").read_text())
    page = (tmp_path / "new" / "speed.md").read_text().splitlines()
    assert len(body["ratios"]) == len(targets("cpu"))
    for target, kept in zip(targets("cpu"), body["ratios"], strict=True):
        verdict = "" if target.bound is None else at_most if target.at_most else at_least
        assert kept["name"] == target.name and kept["met"] == {"met": True, "missed": False, "": None}[verdict]
        (line,) = [line for line in page if line.startswith(f"| {target.name} |")]
        assert line.split(" | ")[4] == verdict
    judged = [row["met"] for row in body["ratios"] if row["met"] is not None]
    assert f"{sum(judged)} of {len(judged)} targets are met." in "\n".join(page)
    assert body["environment"]["versions"]["torch"] and body["setting"]["width"] == Setting.width


def test_memory_is_measured_in_a_process_of_its_own():
    ((peak, above),) = memory.peaks(TOY, ["lora-smoe"]).values()
    assert peak > 100e6 and 0 <= above < peak


def test_a_ratio_is_the_median_over_rounds_of_competitors_that_alternate(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(ratios.time, "perf_counter", lambda: next(clock) ** 2)
    order = []
    contest = SideBySide({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, "cpu")
    for _ in range(3):
        contest()
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    # The n-th turn from 0 lasts (2n + 1)^2 - (2n)^2 = 4n + 1 seconds.
    assert contest.seconds == {"a": [1, 13, 17], "b": [5, 9, 21]}
    assert ratio(Target(name="a / b", bound=1.0), contest.over("a", "b"), "").value == pytest.approx(17 / 21)


@pytest.mark.parametrize(("at_most", "value", "verdict"), [(True, 1.2, "missed"), (False, 1.2, "met")])
def test_a_missed_target_is_printed_as_missed(at_most, value, verdict):
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table([ratio(Target(name="time of a / b", bound=1.15, at_most=at_most), [value], "")]))
    row = next(line for line in capture.get().splitlines() if "time of a / b" in line)
    assert f" {verdict} " in row


def test_the_stand_in_trains_one_block_after_the_other():
    model = torch.nn.ModuleDict({name: torch.nn.Linear(4, 4, bias=False) for name in ("x", "y")})
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = StandIn(torch.optim.AdamW(model.parameters(), lr=0.1), list(model.named_parameters()), [["x."], ["y."]])
    for active in ("y", "x"):
        assert [name for name, p in model.named_parameters() if p.requires_grad] == [f"{active}.weight"]
        model["y"](model["x"](torch.ones(2, 4))).sum().backward()
        optimizer.step()
        moved = not torch.equal(model[active].weight, before[f"{active}.weight"])
        assert moved
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["y.weight"]
