"""Tasks named on the command line, and one's own tasks with local data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.data import sources
from benchmarks.data.tasks import OWN, task_objects, training_pairs
from benchmarks.plan import custom
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "own_task"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A copy of the example, as `--include-path` would name it."""
    folder = tmp_path / "own"
    shutil.copytree(EXAMPLE, folder)
    monkeypatch.setenv(OWN, str(folder))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return folder


def asked(tasks, **more):
    (spec,) = resolve(Request(tasks=tasks, model="tiny", methods="lora", device="cpu", **more))
    return spec


def test_tasks_make_a_suite_with_the_metric_that_each_reports():
    suite = custom.suite(("arc_easy", "boolq", "sst2"))
    assert suite.headline == {"arc_easy": "acc_norm", "boolq": "acc", "sst2": "acc"} and suite.protocol == "loglik"
    assert custom.suite(("gsm8k",)).headline == {"gsm8k": "exact_match"}
    assert custom.suite(("gsm8k", "boolq")).protocol == "lm-eval"


def test_named_tasks_are_part_of_the_spec_and_another_protocol_may_define_them():
    spec = asked("arc_easy, boolq")
    assert (spec.suite, spec.tasks, spec.own_tasks) == ("custom", ("arc_easy", "boolq"), None)
    assert spec.key.startswith("custom--tiny--lora--s0--") and spec.key != asked("arc_easy").key
    assert asked("arc_easy,boolq", protocol="generative").protocol == "generative"


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ("", "expected names of lm-eval tasks, each once"),
        ("boolq,boolq", "expected names of lm-eval tasks, each once"),
        ("bolq", "unknown task 'bolq'; did you mean .*boolq"),
        ("mmlu", "mmlu is a group of tasks: name the tasks themselves"),
        ("wikitext", "task wikitext has no answer to train on"),
        ("lambada_openai", "the embedded source does not hold lambada_openai: use --source hub"),
    ],
)
def test_a_task_that_cannot_be_run_is_refused_by_name(tasks, message):
    with pytest.raises(ValueError, match=message):
        asked(tasks)


def test_ones_own_task_reads_the_files_beside_it(own):
    split = sources.splits("embedded", ("opposites",))["opposites"]
    assert [len(part) for part in split.values()] == [24, 8]
    task = task_objects({"opposites": split})["opposites"]
    for doc, (context, answer) in zip(split["train"], training_pairs(task, list(split["train"])), strict=True):
        assert (context, answer) == (f"The opposite of {doc['word']} is", f" {doc['choices'][doc['answer']]}")


def test_ones_own_task_stands_beside_embedded_ones_and_its_files_are_part_of_the_key(own):
    spec = asked("opposites,arc_easy")
    assert spec.own_tasks and asked("opposites,arc_easy") == spec
    with (own / "train.jsonl").open("a") as file:
        file.write(json.dumps({"word": "raw", "choices": ["cooked", "red", "long"], "answer": 0}) + "\n")
    assert asked("opposites,arc_easy").key != spec.key
    assert asked("arc_easy").own_tasks is None


def test_a_training_document_that_is_evaluated_as_well_is_dropped(own):
    last = (own / "test.jsonl").read_text().splitlines()[-1]
    with (own / "train.jsonl").open("a") as file:
        file.write(
            last.upper().replace('"WORD"', '"word"').replace('"CHOICES"', '"choices"').replace("ANSWER", "answer")
        )
    assert len(sources.splits("embedded", ("opposites",))["opposites"]["train"]) == 24


def test_a_task_without_a_training_split_is_cut_in_two(own):
    file = own / "opposites.yaml"
    file.write_text(
        file.read_text().replace("training_split: train\n", "").replace("test_split: test", "test_split: train")
    )
    split = sources.splits("embedded", ("opposites",))["opposites"]
    words = [{d["word"] for d in part} for part in split.values()]
    assert not words[0] & words[1] and len(words[0] | words[1]) == 24


def test_a_name_that_is_taken_and_a_folder_without_tasks_are_refused(own, monkeypatch, tmp_path):
    file = own / "opposites.yaml"
    file.write_text(file.read_text().replace("task: opposites", "task: boolq"))
    with pytest.raises(ValueError, match="boolq: lm-eval or this repository has a task of that name"):
        asked("boolq")
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv(OWN, str(tmp_path / "empty"))
    with pytest.raises(ValueError, match=r"no task file .* in .*empty"):
        asked("opposites")
