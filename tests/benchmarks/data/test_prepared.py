"""Data made once for the jobs of a run: what comes back is what was made, and whatever decides it makes it anew."""

from __future__ import annotations

import dataclasses
import datetime
import os

import pytest

from benchmarks.data import prepared, training
from benchmarks.data.examples import Example
from benchmarks.jobs.evaluate import evaluate
from benchmarks.models.load import TINY
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve

TASKS = "hellaswag,arc_easy"  # one whose documents are processed, one whose are not


@pytest.fixture
def spec():
    request = Request(
        tasks=TASKS,
        methods="lora",
        model=TINY,
        device="cpu",
        dtype="float32",
        train_documents=8,
        limit=3,
        max_length=900,
    )
    (only,) = resolve(request)
    return only


def read(spec, tokenizer):
    description = {}
    return *training.training_data(spec, tokenizer, description), description


def test_what_was_made_once_is_found_again_and_scores_the_same(spec, tiny, monkeypatch):
    model, tokenizer = tiny
    with prepared.folder():
        made, examples, description = read(spec, tokenizer)
        monkeypatch.setattr(training, "_made", lambda *_: pytest.fail("made again"))
        found, examples_again, description_again = read(spec, tokenizer)
    assert examples == examples_again and description == description_again
    assert {n: list(t.eval_docs) for n, t in made.items()} == {n: list(t.eval_docs) for n, t in found.items()}
    headline = dict.fromkeys(made, "acc_norm")
    scores = [evaluate(model, tokenizer, objects, headline, 4).scores for objects in (made, found)]
    assert scores[0] == scores[1] and list(scores[0]) == TASKS.split(",")


@pytest.mark.parametrize(
    "change",
    [{"train_documents": 6}, {"max_length": 500}, {"data_seed": 1}, {"model_content": "other"}, {"own_tasks": "x"}],
)
def test_another_request_of_data_has_another_file(spec, change):
    with prepared.folder():
        assert prepared.file_of(spec) != prepared.file_of(dataclasses.replace(spec, **change))
        assert prepared.file_of(spec) == prepared.file_of(dataclasses.replace(spec, method="molora", learning_rate=1.0))


def test_without_a_run_nothing_is_kept(spec):
    assert prepared.FOLDER not in os.environ and prepared.file_of(spec) is None
    prepared.keep(spec, prepared.Prepared({}, {}, {}))
    assert prepared.find(spec) is None


def test_the_folder_goes_with_the_run(spec):
    with prepared.folder():
        prepared.keep(spec, prepared.Prepared({"a": [Example("a", (1, 2), 1, True)], "b": []}, {"a": [{"x": 1}]}, {}))
        assert prepared.find(spec).examples == {"a": [Example("a", (1, 2), 1, True)], "b": []}
        file = prepared.file_of(spec)
        assert file.is_file()
    assert not file.parent.exists()


def test_a_file_that_was_cut_short_is_made_anew(spec):
    with prepared.folder():
        prepared.keep(spec, prepared.Prepared({"a": [Example("a", (1, 2), 1, False)]}, {}, {}))
        file = prepared.file_of(spec)
        file.write_bytes(file.read_bytes()[:40])
        assert prepared.find(spec) is None


def test_documents_that_json_cannot_tell_are_not_kept(spec):
    with prepared.folder():
        prepared.keep(spec, prepared.Prepared({}, {"a": [{"on": datetime.date(2020, 1, 1)}]}, {}))
        prepared.keep(spec, prepared.Prepared({}, {"a": [{"pair": (1, 2)}]}, {}))
        assert prepared.find(spec) is None
