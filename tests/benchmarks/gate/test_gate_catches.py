"""The gate on real jobs of the tiny model: what is broken on purpose is caught and named, and what is not passes.

The contestants come from a folder outside the repository, as the same names with other code in every run.
"""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.gate.checks import compare
from benchmarks.gate.findings import Limits
from benchmarks.jobs.executors import LocalProcesses
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from results.store import Store

PLAIN = """
from dataclasses import dataclass
from typing import ClassVar

import torch

from baselines.experts import ExpertMethod
from baselines.methods.lora import Lora
from benchmarks.jobs import meter
from smoe import find_blocks


@dataclass(frozen=True, kw_only=True)
class Subject(Lora):
    name: ClassVar[str] = "subject"


@dataclass(frozen=True, kw_only=True)
class Mixture(ExpertMethod):
    name: ClassVar[str] = "mixture"
    summary: ClassVar[str] = "two experts everywhere"
    source: ClassVar[str] = "-"

    def allocate(self, model, probe):
        return dict.fromkeys(find_blocks(model, self.target_modules), 2), {}


attach, allocate = Subject.attach, Mixture.allocate
"""
LEAK = """
def leaking(self, model, probe, total_steps):
    self.__dict__["kept"] = torch.ones(int(0.05 * meter.resident_peak()), dtype=torch.uint8)
    return attach(self, model, probe, total_steps)

Subject.attach = leaking
"""
HALVED_SCALING = """
def halved(self, model, probe, total_steps):
    attached = attach(self, model, probe, total_steps)
    for module in attached.modules():
        if isinstance(getattr(module, "scaling", None), dict):  # an adapter's, not the attention's
            module.scaling = {name: scale / 2 for name, scale in module.scaling.items()}
    return attached

Subject.attach = halved
"""
CHANGED_PROMPT = """
from benchmarks.data import tasks as task_index

task_objects = task_index.task_objects


def reworded(*asked):
    tasks = task_objects(*asked)
    tasks["arc_easy"].config.doc_to_text += " Think first."
    return tasks

task_index.task_objects = reworded
"""
MOVED_EXPERT = """
def other(self, model, probe):
    experts, facts = allocate(self, model, probe)
    return {**experts, "model.layers.1.mlp.up_proj": 3, "model.layers.0.mlp.up_proj": 1}, facts

Mixture.allocate = other
"""
ADAPTER_OFF = """
from benchmarks.jobs import job

evaluate = job.evaluate


def without_adapter(model, *asked):
    with model.disable_adapter():
        return evaluate(model, *asked)

job.evaluate = without_adapter
"""
ALL_WRONG = """
from dataclasses import replace

from benchmarks.jobs import job

evaluate = job.evaluate


def all_wrong(*asked):
    part = evaluate(*asked)
    scores = {t: replace(s, outcomes=(0.0,) * s.count, value=0.0) for t, s in part.scores.items()}
    return part._replace(scores=scores)

job.evaluate = all_wrong
"""
TASKS = ("arc_easy", "openbookqa")  # few documents to load
REPEATS = 20


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run contestants of the code `PLAIN + fault`, each in a process of its own; returns their records by method."""

    def jobs(*methods, fault="", started="", protocol="loglik"):
        folder = tmp_path_factory.mktemp("contestants")
        (folder / "contestants.py").write_text(PLAIN)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SMOE_METHODS", str(folder))
            patch.setenv("PYTHONPATH", str(folder))
            patch.setenv("OMP_NUM_THREADS", "1")
            patch.setenv("HF_HUB_OFFLINE", "1")
            request = Request(
                methods=",".join(methods), model="tiny", train_documents=64, limit=2, learning_rate=2e-3,
                dtype="float32", device="cpu", malloc="mapped", protocol=protocol,
            )  # fmt: skip
            specs = [dataclasses.replace(spec, tasks=TASKS) for spec in resolve(request)]
            (folder / "contestants.py").write_text(PLAIN + fault)  # after this process has read it
            (folder / "sitecustomize.py").write_text(started)  # what Python runs first of all
            store = Store(tmp_path_factory.mktemp("records"))
            found = list(LocalProcesses(store).run(specs, lambda spec: lambda *progress: None))
        assert [r.error for r in found] == [None] * len(methods)
        return {r.spec.method: r for r in found}

    return jobs


@pytest.fixture(scope="module")
def plain(run):
    return run("subject", "mixture")


def caught(plain, new):
    """{(row, check): detail} of the regressions when the records of `new` take their place among the plain ones."""
    findings = compare(list(plain.values()), list({**plain, **new}.values()), Limits(reference="subject"))
    return {(f.row, f.check): f.detail for f in findings if f.status == "regression"}


def test_a_repeat_of_the_unchanged_run_passes(plain, run):
    again = run("subject")
    assert caught(plain, again) == {} and again["subject"].losses == plain["subject"].losses


@pytest.mark.slow
def test_twenty_repeats_of_the_unchanged_run_pass_every_time(plain, run, counted):
    found = [caught(plain, run(*plain)) for _ in range(REPEATS)]
    counted("repeats of an unchanged run that the gate passes", REPEATS, found.count({}))
    assert found == [{}] * REPEATS


def test_a_leak_of_five_percent_is_caught_as_memory(plain, run):
    found = caught(plain, run("subject", fault=LEAK))
    assert found.keys() == {("subject", f"memory {phase}") for phase in ("allocate", "train", "evaluate")}


def test_a_halved_scaling_is_caught_as_training_loss_and_answers(plain, run):
    assert {check for _, check in caught(plain, run("subject", fault=HALVED_SCALING))} >= {"training loss", "answers"}


def test_an_adapter_that_is_off_in_evaluation_is_caught_in_every_method(plain, run):
    """The training is as it was: nothing but the answers can tell."""
    assert caught(plain, run(*plain, fault=ADAPTER_OFF)).keys() == {(method, "answers") for method in plain}


def test_answers_that_are_all_wrong_are_caught(plain, run):
    assert any(score.value for score in plain["mixture"].scores.values())
    assert caught(plain, run("mixture", fault=ALL_WRONG)).keys() == {("mixture", "answers")}


def test_a_changed_prompt_is_caught_and_named_by_its_task(plain, run):
    found = caught(plain, run("subject", started=CHANGED_PROMPT))
    assert "arc_easy prompt_hash" in found["subject", "prompts"]
    assert "arc_easy train_hash" in found["subject", "training data"]


def test_a_moved_expert_is_caught_and_named_by_its_blocks(plain, run):
    found = caught(plain, run("mixture", fault=MOVED_EXPERT))
    assert "model.layers.1.mlp.up_proj 2 -> 3" in found["mixture", "allocation"]
    assert "model.layers.0.mlp.up_proj 2 -> 1" in found["mixture", "allocation"]


def test_an_adapter_that_is_off_is_caught_under_the_generative_protocol(run):
    plain = run("subject", protocol="generative")
    assert caught(plain, run("subject", protocol="generative")) == {}
    assert ("subject", "answers") in caught(plain, run("subject", protocol="generative", fault=ADAPTER_OFF))
