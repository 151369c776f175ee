"""Documents at the edge: none, one, the same one twice, and answers that leave nothing to train on."""

from __future__ import annotations

import pytest
from own_task import WRITTEN, described, rows, specs, write_task

from benchmarks.data.tasks import OWN
from benchmarks.jobs.child import attempt
from benchmarks.jobs.session import preflight
from benchmarks.models import load as models


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv(OWN, str(tmp_path / "own"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "own"


def test_one_document_to_train_on_and_one_to_ask_make_a_whole_job(folder):
    write_task(folder, rows(1), rows(1, 100))
    record = attempt(*specs(train_documents=1, limit=1))
    assert record.error is None, record.error
    assert len(record.losses) == 1 and record.scores["t"].count == 1


def test_a_document_on_both_sides_is_not_trained_on(folder):
    write_task(folder, [*rows(30), *rows(10, 100)], rows(20, 100))
    _, examples, found = described(train_documents=None)
    assert found["t"]["dropped"] == 10 and found["t"]["train_documents"] == len(examples["t"]) == 30


def test_the_same_document_many_times_is_trained_on_as_often_as_it_stands_there(folder):
    write_task(folder, rows(1) * 12, rows(20, 100))
    _, examples, found = described(train_documents=12)
    assert found["t"]["train_documents"] == 12 and len({tuple(e.ids) for e in examples["t"]}) == 1


def test_when_every_training_document_is_asked_too_nothing_is_left_and_the_task_is_named(folder):
    write_task(folder, rows(20, 100), rows(20, 100))
    with pytest.raises(ValueError, match=r"\bt\b"):
        preflight(specs())


@pytest.mark.parametrize("answer", ["", "   "])
def test_an_answer_of_nothing_is_refused_with_its_task(folder, answer):
    write_task(folder, [r | {"choices": [answer, answer, answer]} for r in rows(40)])
    with pytest.raises(ValueError, match=r"task t\b.*answer"):
        preflight(specs())


def test_more_documents_than_there_are_are_those_that_there_are(folder):
    write_task(folder, rows(8), rows(3, 100))
    objects, examples, found = described(train_documents=1000)
    assert found["t"]["train_documents"] == len(examples["t"]) == 8
    assert found["t"]["evaluation_documents"] == len(list(objects["t"].eval_docs)) == 3


def test_a_prompt_beyond_what_is_read_is_cut_and_counted(folder):
    long = [r | {"q": "word " * 400} for r in rows(40)]
    write_task(folder, [r | {"q": f"{i} {r['q']}"} for i, r in enumerate(long)], rows(20, 100))
    _, examples, found = described()
    assert found["t"]["truncated"] == 16 and max(len(e.ids) for e in examples["t"]) == 256


def test_an_answer_to_be_written_that_is_empty_trains_to_end_at_once(folder):
    write_task(folder, [r | {"a": ""} for r in rows(40)], [r | {"a": "x"} for r in rows(20, 100)],
               extra=WRITTEN + "doc_to_target: '{{a}}'\n")  # fmt: skip
    _, examples, _ = described()
    _, tokenizer = models.load("tiny", "float32", "cpu")
    answers = {tokenizer.decode(e.ids[-e.answer_tokens :]) for e in examples["t"]}
    assert {a.strip() for a in answers} == {tokenizer.eos_token}
