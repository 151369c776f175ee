"""`--data` on the command line: what is found is said, and parameters are matched unless something else was asked."""

from __future__ import annotations

import json

import pytest

from benchmarks.data.tasks import OWN
from benchmarks.plan import own_data
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve

FIELDS = dict(text="q", choices=None, answer="a")


@pytest.fixture
def task(tmp_path, monkeypatch):
    monkeypatch.setenv(OWN, "")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"q": f"Is {i} even?", "a": "no" if i % 2 else "yes"} for i in range(60)]
    (tmp_path / "even.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return own_data.made(own_data.OwnData(data=tmp_path / "even.jsonl", **FIELDS))


def specs_of(task, place, **asked):
    request = dict(tasks=None, match=None, methods="lora,lora-smoe", model="tiny", device="cpu") | asked
    return resolve(Request(**own_data.asked_with(request, task, place)))


def test_the_files_make_a_task_whose_content_is_in_the_key_and_parameters_are_matched(task, tmp_path):
    lora, ours = specs_of(task, tmp_path / "tasks")
    assert lora.tasks == ("own_even",) and lora.match == "params" and lora.own_tasks
    assert ours.hyperparameters["rule"] == "proportional" and ours.hyperparameters["trainable_params"]
    said = own_data.told(task, lora)
    assert said[0] == "your data: own_even"
    assert any("parameters: matched" in line for line in said)
    (trained,) = (line for line in said if "first prompt as trained" in line)
    assert trained.endswith('even?\\nAnswer:"') and any('answers scored: [" no", " yes"]' in line for line in said)


@pytest.mark.parametrize("asked", [{"match": "none"}, {"methods": "lora:r=2,lora-smoe"}])
def test_parameters_are_as_they_were_asked_for(task, tmp_path, asked):
    assert {spec.match for spec in specs_of(task, tmp_path, **asked)} == {"none"}


def test_the_task_stands_beside_others(task, tmp_path):
    assert specs_of(task, tmp_path, tasks="arc_easy")[0].tasks == ("own_even", "arc_easy")
