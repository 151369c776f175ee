"""A contestant is one file: in a folder elsewhere it is listed, planned, run, tabled and held to the contract.

Nothing in the repository is edited for it, and what a user would run runs in processes of its own. The example in the
folder's README is one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import registry
from smoe import SMoEConfig, experts_per_block, find_blocks
from smoe.routers import router

ROOT = Path(__file__).resolve().parents[2]
NAME = "every-other-block"
SOURCE = '''
"""Experts on every other block, the others without."""

from dataclasses import dataclass
from typing import ClassVar

from baselines.experts import ExpertMethod
from smoe import find_blocks


@dataclass(frozen=True, kw_only=True)
class EveryOtherBlock(ExpertMethod):
    name: ClassVar[str] = "every-other-block"
    summary: ClassVar[str] = "experts on every other block"
    source: ClassVar[str] = "a test"

    num_experts: int = 3  # in those blocks

    def allocate(self, model, probe):
        blocks = find_blocks(model, self.target_modules)
        return {b: self.num_experts * (i % 2) for i, b in enumerate(blocks)}, {}
'''


NO_MIXTURE = '''
"""PEFT's IA3 by the one verb that a method must have."""

from dataclasses import dataclass
from typing import ClassVar

from peft import IA3Config, get_peft_model

from baselines.method import Method


@dataclass(frozen=True, kw_only=True)
class Scales(Method):
    name: ClassVar[str] = "scales-alone"
    summary: ClassVar[str] = "IA3: one factor for each output"
    source: ClassVar[str] = "a test"

    def attach(self, model, probe, total_steps):
        targets = ["k_proj", "v_proj", "down_proj"]
        config = IA3Config(target_modules=targets, feedforward_modules=["down_proj"], task_type="CAUSAL_LM")
        return get_peft_model(model, config)
'''


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Run a module of the repository with the contestants' folder on the path."""
    folder = tmp_path_factory.mktemp("contestants")
    (folder / "every_other_block.py").write_text(SOURCE)
    (folder / "scales.py").write_text(NO_MIXTURE)
    variables = {**os.environ, "SMOE_METHODS": str(folder), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", *arguments], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=300
        )

    return run


@pytest.fixture(scope="module")
def records(python, tmp_path_factory):
    """The folder of the records of one job with a setting of its own, on the tiny model and real documents."""
    out = tmp_path_factory.mktemp("records")
    options = "--model tiny --dtype float32 --device cpu --train-documents 16 --limit 1".split()
    done = python("benchmarks.run", *options, "--methods", f"{NAME}:num_experts=2", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_it_is_listed_with_its_settings(python):
    listed = python("benchmarks.run", "--list").stdout
    assert "every-other-block  experts on every other block [a test]" in listed and "num_experts=3" in listed


def test_its_job_leaves_a_record_with_its_settings_and_experts(records):
    (file,) = records.glob(f"commonsense--tiny--{NAME}--s0--*.json")
    record = json.loads(file.read_text())
    assert record["status"] == "done" and record["spec"]["hyperparameters"]["num_experts"] == 2
    assert sorted(record["facts"]["experts"].values()) == [0] * 7 + [2] * 7
    assert record["parameters"]["trainable"] == record["parameters"]["experts"] + record["parameters"]["router"] > 0


def test_the_reports_table_has_its_row(python, records):
    shown = python("reports", "show", "--records", str(records))
    assert shown.returncode == 0 and NAME in shown.stdout


@pytest.mark.parametrize("name", [NAME, "scales-alone"])
def test_the_contract_tests_hold_it_to_what_every_contestant_promises(python, name):
    contract = "tests/baselines/test_method_contract.py"
    done = python("pytest", contract, "-k", name, "-vv", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout
    assert f"test_it_starts_equal_to_the_base_model[{name}] PASSED" in done.stdout


def test_only_the_contract_asks_anything_of_it(python):
    more = ("tests/baselines", "tests/benchmarks/studies/test_cost.py")
    collected = python("pytest", *more, "--collect-only", "-p", "no:cacheprovider").stdout
    asked = {line.split("::")[0] for line in collected.splitlines() if f"[{NAME}" in line or "[scales-alone" in line}
    assert asked <= {"tests/baselines/test_method_contract.py", "tests/baselines/test_new_method.py"}
    assert "tests/baselines/test_method_contract.py" in asked


def test_the_example_that_readmes_show_is_a_contestant(tmp_path, monkeypatch, tiny, probe):
    shown = "".join((ROOT / file).read_text(encoding="utf-8") for file in ("README.md", "baselines/README.md"))
    blocks = re.findall(r"```python\n(.*?)```", shown, flags=re.DOTALL)
    (source,) = {block for block in blocks if "class AttentionOnly" in block}
    (tmp_path / "attention_only.py").write_text(source, encoding="utf-8")
    monkeypatch.setenv("SMOE_METHODS", str(tmp_path))
    method = registry.methods()["attention-only"]()
    model = method.attach(tiny, probe, total_steps=1)
    attention = [f"model.layers.{i}.self_attn.{p}_proj" for i in range(2) for p in "qkvo"]
    assert experts_per_block(model) == dict.fromkeys(attention, 4)
    assert sum(method.facts(model)["experts"].values()) == 32


def _shown(kind):
    """The class that baselines/README.md shows as an example of the kind, from its own lines alone."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "baselines/README.md").read_text(encoding="utf-8"), re.DOTALL)
    (source,) = (block for block in blocks if f"({kind})" in block)
    made = {"__name__": "shown"}
    exec(source, made)
    return made[re.search(rf"class (\w+)\({kind}\)", source)[1]]()


def test_the_importance_that_the_readme_shows_measures_every_block(tiny, probe):
    blocks = find_blocks(tiny)
    measured = _shown("Importance").measure(tiny, blocks, probe, 8, None)
    assert all(list(scores) == list(blocks) and min(scores.values()) > 0 for scores in measured.scores.values())


def test_the_router_that_the_readme_shows_is_sharper_than_the_learned_one():
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    gates = [made.gates(logits, SMoEConfig(), None, None)[1] for made in (_shown("Router"), router("softmax"))]
    assert gates[0].sum() == pytest.approx(1) and gates[0].max() > gates[1].max()
