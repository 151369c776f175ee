"""The hub source, on small repositories laid out like the hub's, and what is said when the hub is out of reach."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from lm_eval.api.model import LM

from benchmarks import evaluate, hub, registry, sources
from benchmarks.documents import folder_hash
from benchmarks.plan import Request, parse_revisions, resolve
from benchmarks.suites.math import MATH


def word_problem(i):
    return {"question": f"What is {i} and {i}?", "answer": f"Twice {i} is {2 * i}.\n#### {2 * i}"}


def sciq(i):
    wrong = {f"distractor{n}": f"wrong {n} of {i}" for n in (1, 2, 3)}
    return {"question": f"Question {i}?", "correct_answer": f"right {i}", "support": f"Passage {i}.", **wrong}


def mmlu(i):
    subject = ("anatomy", "virology", "philosophy", "sociology")[i % 4]
    return {"question": f"Of {subject}: {i}?", "subject": subject, "choices": [*"wxyz"], "answer": i % 4}


def math_qa(i):
    options = "a ) 1 , b ) 2 , c ) 3 , d ) 4 , e ) 5"
    return {"Problem": f"Problem {i}", "options": options, "correct": "abcde"[i % 5]}


def asdiv(i):
    return {"body": f"There are {i} nuts.", "question": "How many nuts?", "answer": f"{i} (nuts)"}


# repository -> configuration (None where it has none), document, documents of each split
REPOSITORIES = {
    "openai/gsm8k": ("main", word_problem, {"train": range(20), "test": range(100, 106)}),
    "allenai/sciq": (None, sciq, {"train": range(20), "validation": range(50, 55), "test": range(100, 106)}),
    "cais/mmlu": ("all", mmlu, {"validation": range(40), "test": range(100, 140)}),
    "regisss/math_qa": (None, math_qa, {"train": range(20), "validation": range(50, 52), "test": range(100, 106)}),
    "EleutherAI/asdiv": (None, asdiv, {"validation": range(30)}),
}


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """The folder that `SMOE_HUB` names, with a copy of every repository above."""
    for path, (name, document, splits) in REPOSITORIES.items():
        folder = tmp_path / "hub" / path
        (folder / "data").mkdir(parents=True)
        files = []
        for split, numbers in splits.items():
            lines = "".join(json.dumps(document(i)) + "\n" for i in numbers)
            (folder / "data" / f"{split}.jsonl").write_text(lines)
            files.append(f"  - split: {split}\n    path: data/{split}.jsonl\n")
        card = f"---\nconfigs:\n- config_name: {name or 'default'}\n  data_files:\n{''.join(files)}---\n"
        (folder / "README.md").write_text(card)
    monkeypatch.setenv(hub.COPIES, str(tmp_path / "hub"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "hub"


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
    with (copies / "openai/gsm8k/data/train.jsonl").open("a") as file:
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


class Oracle(LM):
    """Knows or does not know every answer, whether it is written or chosen."""

    def __init__(self, knows):
        super().__init__()
        self.tokens, self.knows = 0, knows

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise AssertionError("no task here asks for the likelihood of a whole text")

    def loglikelihood(self, requests, disable_tqdm=False):
        gold = {"mathqa": lambda d: "abcde".index(d["correct"]), "asdiv": lambda d: 0}
        known = [(r.idx == gold[r.task_name](r.doc)) == self.knows for r in requests]
        return [(0.0 if k else -1e4, k) for k in known]

    def generate_until(self, requests, disable_tqdm=False):
        return [r.doc["answer"] if self.knows else "#### -1" for r in requests]


@pytest.mark.parametrize("knows", [True, False])
def test_word_problems_are_scored_by_the_first_reading_of_an_answer_only(copies, monkeypatch, knows):
    objects = evaluate.task_objects(sources.splits("hub", MATH.tasks), MATH.protocol)
    monkeypatch.setattr(evaluate, "Wrapped", lambda *_: Oracle(knows))
    scores, _ = evaluate.evaluate(torch.nn.Identity(), None, objects, MATH.headline, 1)
    assert {task: score.value for task, score in scores.items()} == dict.fromkeys(MATH.tasks, float(knows))
    assert scores["gsm8k"].count == 6 == len(set(scores["gsm8k"].documents))


def test_word_problems_train_on_the_worked_answer_and_see_no_examples_in_the_prompt(copies):
    objects = evaluate.task_objects(sources.splits("hub", MATH.tasks), MATH.protocol)
    docs = evaluate.training_docs(objects["gsm8k"])
    (prompt, answer), *_ = evaluate.examples(objects["gsm8k"], docs, end="<end>")
    assert prompt == f"Question: {docs[0]['question']}\nAnswer:" and answer == f" {docs[0]['answer']}<end>"
    docs = evaluate.training_docs(objects["asdiv"])
    assert evaluate.examples(objects["asdiv"], docs)[0][1] == docs[0]["answer"].split(" (")[0]  # as lm-eval scores it


def test_the_state_of_every_data_set_is_part_of_the_spec_and_of_its_key(copies):
    def asked():
        return resolve(Request(suite="math", source="hub", model="tiny", methods="lora", device="cpu"))[0]

    before = asked()
    assert before.revisions == {p: f"sha256:{folder_hash(copies / p)}" for p in sorted(before.revisions)}
    assert set(before.revisions) == {"openai/gsm8k", "regisss/math_qa", "EleutherAI/asdiv"}
    with (copies / "openai/gsm8k/data/train.jsonl").open("a") as file:
        file.write(json.dumps(word_problem(77)) + "\n")
    assert asked().key != before.key
    with pytest.raises(ValueError, match="openai/gsm8k: the copy in SMOE_HUB has changed since the run was planned"):
        sources.splits("hub", MATH.tasks, revisions=before.revisions)


def test_a_copy_in_another_state_than_the_pinned_one_is_refused(copies):
    with pytest.raises(ValueError, match="allenai/sciq: the copy in SMOE_HUB is sha256:.*, not 0123abc"):
        sources.revisions("hub", ("sciq",), {"allenai/sciq": "0123abc"})


def test_a_hub_out_of_reach_is_answered_with_what_works_without_it(offline):
    with pytest.raises(ValueError, match="allenai/sciq cannot be had from the hub .*embedded.*SMOE_HUB.*--revision"):
        sources.revisions("hub", ("sciq",), {})
    with pytest.raises(ValueError, match="allenai/sciq cannot be had from the hub"):
        sources.splits("hub", ("sciq",), revisions={"allenai/sciq": "0123abc"})


def test_a_pinned_commit_needs_no_question_to_the_hub_and_is_recorded(offline):
    assert sources.revisions("hub", ("sciq",), {"allenai/sciq": "0123abc"}) == {"allenai/sciq": "0123abc"}


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
    ]


def test_a_data_set_without_the_tasks_split_is_named(copies):
    shutil.rmtree(copies / "allenai/sciq")
    folder = copies / "allenai/sciq"
    folder.mkdir()
    (folder / "train.jsonl").write_text(json.dumps(sciq(1)) + "\n")
    with pytest.raises(ValueError, match="task sciq: its data set has no split 'test'; it has: train"):
        sources.splits("hub", ("sciq",))
