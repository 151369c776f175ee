"""The hub source, on small repositories laid out like the hub's, and what is said when the hub is out of reach."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import datasets
import pytest
import torch
from hub_repositories import (
    DOCUMENTS,
    PLACES,
    documents,
    made_up_repositories,
    real_repositories,
    sciq,
    word_problem,
)
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from benchmarks import registry
from benchmarks.data import examples, hub, sources, training
from benchmarks.data.documents import fingerprint, folder_hash
from benchmarks.data.tasks import folders, task_objects, training_docs, training_pairs
from benchmarks.jobs import evaluate
from benchmarks.plan.parse import parse_revisions
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from benchmarks.suites.math import MATH


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """The folder that `SMOE_HUB` names, with a copy of every repository of made-up documents."""
    made_up_repositories(tmp_path / "hub")
    monkeypatch.setenv(hub.COPIES, str(tmp_path / "hub"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "hub"


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A folder with a copy of every repository of the suites other than math."""
    folder = tmp_path_factory.mktemp("hub")
    real_repositories(folder)
    return folder


@pytest.fixture(scope="module", params=[s.name for s in registry.suites().values() if set(s.tasks) <= PLACES.keys()])
def suite(request, real):
    """A suite with its documents from the hub, and lm-eval's own tasks over the same repositories."""
    found = registry.suites()[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(hub.COPIES, str(real))
        patch.setattr("datasets.config.HF_DATASETS_CACHE", real / ".cache")
        splits = sources.splits("hub", found.tasks)
        paths = sorted({folders()[task] for task in found.tasks})
        copied = [{"task": task, "dataset_path": str(real / PLACES[task][0])} for task in found.tasks]
        manager = TaskManager(include_defaults=False, include_path=paths)
        own = manager.load([{"group": "own", "task": copied}])["tasks"]
    objects = task_objects(splits, found.protocol)
    return SimpleNamespace(tasks=found.tasks, headline=found.headline, splits=splits, objects=objects, own=own)


@pytest.fixture
def offline(monkeypatch):
    """No copy, and a hub that cannot be asked."""
    monkeypatch.delenv(hub.COPIES, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def questions(part):
    return {d["question"] for d in part}


def test_a_task_trains_on_its_training_split_and_is_evaluated_on_its_test_split(copies):
    split = sources.splits("hub", ("sciq",))["sciq"]
    assert questions(split["train"]) == {f"Question {i}?" for i in range(20)}
    assert questions(split["evaluate"]) == {f"Question {i}?" for i in range(100, 106)}


def test_a_copy_of_an_evaluation_document_is_taken_out_of_training(copies):
    leak = sciq(103) | {"question": " QUESTION 103 ?", "correct_answer": "another"}
    with (copies / "allenai/sciq/data/train.jsonl").open("a") as file:
        file.write(json.dumps(leak) + "\n" + json.dumps(sciq(21)) + "\n")
    assert len(sources.splits("hub", ("sciq",))["sciq"]["train"]) == 21
    with (copies / "openai/gsm8k/main/train.jsonl").open("a") as file:
        file.write(json.dumps(word_problem(101)) + "\n")
    assert len(sources.splits("hub", ("gsm8k",))["gsm8k"]["train"]) == 20


def test_one_split_alone_is_cut_in_two_halves_by_content(copies):
    first, again = (sources.splits("hub", ("asdiv",))["asdiv"] for _ in range(2))
    bodies = [{d["body"] for d in part} for part in first.values()]
    assert not bodies[0] & bodies[1] and len(bodies[0] | bodies[1]) == 30
    assert [list(p) for p in first.values()] == [list(p) for p in again.values()]


def test_a_group_of_mmlu_has_the_documents_of_its_subjects(copies):
    found = sources.splits("hub", ("mmlu_stem_pooled", "mmlu_other_pooled"))
    for task, subject in (("mmlu_stem_pooled", "anatomy"), ("mmlu_other_pooled", "virology")):
        assert {d["subject"] for part in found[task].values() for d in part} == {subject}
        assert [len(part) for part in found[task].values()] == [10, 10]


def test_a_suite_is_evaluated_on_the_documents_that_lm_eval_takes(suite):
    for task, split in suite.splits.items():
        columns = split["evaluate"].column_names  # a task's own processing adds others
        own = [fingerprint({name: doc[name] for name in columns}) for doc in suite.own[task].eval_docs]
        asked = [fingerprint(doc) for doc in documents(task)[PLACES[task][2]]]
        assert sorted(map(fingerprint, split["evaluate"])) == sorted(own) == sorted(asked)


def test_a_suite_trains_on_its_training_split_and_on_no_document_that_is_evaluated(suite):
    evaluated = {fingerprint(doc) for split in suite.splits.values() for doc in split["evaluate"]}
    for task, split in suite.splits.items():
        trained = {fingerprint(doc) for doc in split["train"]}
        theirs = documents(task)["validation" if PLACES[task][0] == "cais/mmlu" else "train"]
        assert trained and trained <= {fingerprint(doc) for doc in theirs} and not trained & evaluated


def test_every_task_of_a_suite_gives_examples_and_a_model_that_knows_scores_one(suite, tokenizer, monkeypatch):
    for name, task in suite.objects.items():
        docs = training_docs(task)
        pairs = training_pairs(task, docs)
        assert len(pairs) == len(docs) > 0
        assert all(examples.encode(tokenizer, name, c, a, 4096).answer_tokens for c, a in pairs)
    monkeypatch.setattr(evaluate, "Wrapped", lambda *_: Oracle(knows=True))
    scores, *_ = evaluate.evaluate(torch.nn.Identity(), None, suite.objects, suite.headline, 1)
    assert {task: (s.value, s.count) for task, s in scores.items()} == dict.fromkeys(suite.tasks, (1.0, DOCUMENTS))


def right(doc):
    """The right choice by the data set's own field."""
    if "answerKey" in doc:
        return doc["choices"]["label"].index(doc["answerKey"])
    if "correct_answer" in doc:
        return 3  # lm-eval puts it behind the distractors
    if "option1" in doc:
        return int(doc["answer"]) - 1
    if "answerA" in doc:
        return int(doc["label"]) - 1
    return int(doc["label"] if "label" in doc else doc["answer"])


class Oracle(LM):
    """Knows or does not know every answer, whether it is written or chosen."""

    def __init__(self, knows):
        super().__init__()
        self.tokens, self.scorer, self.knows = 0, "made-up", knows

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise AssertionError("no task here asks for the likelihood of a whole text")

    def loglikelihood(self, requests, disable_tqdm=False):
        gold = {"mathqa": lambda d: "abcde".index(d["correct"]), "asdiv": lambda d: 0}
        known = [(r.idx == gold.get(r.task_name, right)(r.doc)) == self.knows for r in requests]
        return [(0.0 if k else -1e4, k) for k in known]

    def generate_until(self, requests, disable_tqdm=False):
        return [r.doc["answer"] if self.knows else "#### -1" for r in requests]


@pytest.mark.parametrize("knows", [True, False])
def test_word_problems_are_scored_by_the_first_reading_of_an_answer_only(copies, monkeypatch, knows):
    objects = task_objects(sources.splits("hub", MATH.tasks), MATH.protocol)
    monkeypatch.setattr(evaluate, "Wrapped", lambda *_: Oracle(knows))
    scores, *_ = evaluate.evaluate(torch.nn.Identity(), None, objects, MATH.headline, 1)
    assert {task: score.value for task, score in scores.items()} == dict.fromkeys(MATH.tasks, float(knows))
    assert scores["gsm8k"].count == 6 == len(set(scores["gsm8k"].documents))


def test_word_problems_train_on_the_worked_answer_and_see_no_examples_in_the_prompt(copies):
    objects = task_objects(sources.splits("hub", MATH.tasks), MATH.protocol)
    docs = training_docs(objects["gsm8k"])
    (prompt, answer), *_ = training_pairs(objects["gsm8k"], docs, end="<end>")
    assert prompt == f"Question: {docs[0]['question']}\nAnswer:" and answer == f" {docs[0]['answer']}<end>"
    docs = training_docs(objects["asdiv"])
    assert training_pairs(objects["asdiv"], docs)[0][1] == docs[0]["answer"].split(" (")[0]  # as lm-eval scores it


def test_the_state_of_every_data_set_is_part_of_the_spec_and_of_its_key(copies):
    def asked():
        return resolve(Request(suite="math", source="hub", model="tiny", methods="lora", device="cpu"))[0]

    before = asked()
    assert before.revisions == {p: f"sha256:{folder_hash(copies / p)}" for p in sorted(before.revisions)}
    assert set(before.revisions) == {"openai/gsm8k", "regisss/math_qa", "EleutherAI/asdiv"}
    with (copies / "openai/gsm8k/main/train.jsonl").open("a") as file:
        file.write(json.dumps(word_problem(77)) + "\n")
    assert asked().key != before.key
    with pytest.raises(ValueError, match="openai/gsm8k: the copy in SMOE_HUB has changed since the run was planned"):
        sources.splits("hub", MATH.tasks, revisions=before.revisions)


def test_a_copy_in_another_state_than_the_pinned_one_is_refused(copies):
    with pytest.raises(ValueError, match=r"allenai/sciq: the copy in SMOE_HUB is sha256:.*, not 0123abc"):
        sources.revisions("hub", ("sciq",), {"allenai/sciq": "0123abc"})


def test_a_hub_out_of_reach_is_answered_with_what_works_without_it(offline):
    with pytest.raises(ValueError, match=r"allenai/sciq cannot be had from the hub .*embedded.*SMOE_HUB.*--revision"):
        sources.revisions("hub", ("sciq",), {})
    with pytest.raises(ValueError, match="allenai/sciq cannot be had from the hub"):
        sources.splits("hub", ("sciq",), revisions={"allenai/sciq": "0123abc"})


def test_a_pinned_commit_needs_no_question_to_the_hub_and_is_recorded(offline):
    assert sources.revisions("hub", ("sciq",), {"allenai/sciq": "0123abc"}) == {"allenai/sciq": "0123abc"}


def test_a_pinned_commit_is_the_one_that_a_job_loads(offline, monkeypatch, tokenizer):
    loaded = []

    def load(path, name=None, **given):
        loaded.append((path, given["revision"]))
        return datasets.DatasetDict({s: datasets.Dataset.from_list([sciq(i)]) for i, s in enumerate(("train", "test"))})

    monkeypatch.setattr("datasets.load_dataset", load)
    pinned = Request(tasks="sciq", source="hub", revision="allenai/sciq=0123abc", model="tiny", methods="lora")
    (spec,) = resolve(pinned)
    training.training_data(spec, tokenizer, {})
    assert loaded == [("allenai/sciq", "0123abc")]


def test_the_newest_commit_of_each_data_set_goes_into_the_spec(monkeypatch):
    asked = []

    class Hub:
        def dataset_info(self, path, revision, timeout):
            asked.append(path if revision is None else (path, revision))
            return SimpleNamespace(sha=f"newest of {path}")

    monkeypatch.delenv(hub.COPIES, raising=False)
    monkeypatch.setattr(hub, "HfApi", Hub)
    request = Request(suite="nlu", source="hub", revision="nyu-mll/glue=0123abc", model="tiny", methods="lora")
    (spec,) = resolve(request)
    assert spec.revisions == {"aps/super_glue": "newest of aps/super_glue", "nyu-mll/glue": "0123abc"}
    assert asked == ["aps/super_glue"]  # two of its configurations are read, and it is asked once


def test_commits_are_read_from_the_command_line():
    assert parse_revisions("cais/mmlu=01, a/b=23") == {"cais/mmlu": "01", "a/b": "23"} and parse_revisions(None) == {}
    with pytest.raises(ValueError, match="revision 'cais/mmlu': expected DATASET=COMMIT"):
        parse_revisions("cais/mmlu")
    with pytest.raises(ValueError, match="revision of a/b: this run reads allenai/sciq"):
        sources.revisions("hub", ("sciq",), {"a/b": "1"})
    with pytest.raises(ValueError, match="the embedded source has no revisions; use --source hub"):
        sources.revisions("embedded", ("sciq",), {"allenai/sciq": "1"})


def test_a_task_that_is_not_embedded_is_refused_with_the_source_that_has_it():
    with pytest.raises(ValueError, match="the embedded source does not hold gsm8k: use --source hub, or tasks that"):
        resolve(Request(suite="math", model="tiny", device="cpu"))
    assert [s.name for s in registry.suites().values() if not set(s.tasks) <= sources.EMBEDDED.keys()] == [
        "cost",
        "math",
        "serving",
    ]


def test_a_data_set_without_the_tasks_split_is_named(copies):
    shutil.rmtree(copies / "allenai/sciq")
    folder = copies / "allenai/sciq"
    folder.mkdir()
    (folder / "train.jsonl").write_text(json.dumps(sciq(1)) + "\n")
    with pytest.raises(ValueError, match="task sciq: its data set has no split 'test'; it has: train"):
        sources.splits("hub", ("sciq",))
