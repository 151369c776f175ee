"""The generative protocol: LLM-Adapters' instructions to the letter, and answers that do not depend on the batch."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import datasets
import pytest
import torch

from benchmarks import registry, suites
from benchmarks.data import examples, sources
from benchmarks.data.tasks import task_objects, training_docs, training_pairs
from benchmarks.jobs import child, evaluate
from benchmarks.models import load as models
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "llm_adapters"  # published test sets
SUITE = registry.suites()["commonsense"]
# Task -> the published test set: its folder, its documents, and a hash over its sorted instructions with their outputs.
PUBLISHED = {
    "boolq": ("boolq", 3270, "4ea047b78fd18814"),
    "piqa": ("piqa", 1838, "6634f730ab21918a"),
    "arc_easy": ("ARC-Easy", 2376, "7f1f568641a1a189"),
    "openbookqa": ("openbookqa", 500, "f80ddaa6e9baacd0"),
}
PROMPT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{}\n\n### Response:"
)


@pytest.fixture(scope="module")
def splits():
    return sources.splits("embedded", SUITE.tasks)


@pytest.fixture(scope="module")
def tasks(splits):
    return task_objects(splits, "generative")


def cut(splits, count):
    """The splits with `count` documents for evaluation and as many for training."""
    return {
        task: sources.Split({name: part.select(range(count)) for name, part in split.items()})
        for task, split in splits.items()
    }


def digest(pairs):
    return hashlib.sha256(json.dumps(sorted(pairs)).encode()).hexdigest()[:16]


def rendered(task, splits, name):
    """(instruction, output) of every document that the published test set has as well."""
    parts = ("evaluate",) if len(splits[name]["evaluate"]) == PUBLISHED[name][1] else ("train", "evaluate")
    docs = [doc for part in parts for doc in splits[name][part]]
    return [(task.doc_to_text(doc), f"the correct answer is {task.doc_to_target(doc)}") for doc in docs]


@pytest.mark.parametrize("name", PUBLISHED)
def test_instructions_and_answers_are_llm_adapters_own_for_every_document(tasks, splits, name):
    _, count, expected = PUBLISHED[name]
    pairs = rendered(tasks[name], splits, name)
    assert (len(pairs), digest(pairs)) == (count, expected)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published test sets are not beside this checkout")
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_hashes_are_those_of_the_published_test_sets(tasks, splits, name):
    folder, count, expected = PUBLISHED[name]
    published = json.loads((SHARED / folder / "test.json").read_text())
    pairs = [(d["instruction"], d["output"]) for d in published]
    assert not any(d["input"] for d in published)
    assert Counter(pairs) - Counter(rendered(tasks[name], splits, name)) == Counter()
    assert (len(pairs), digest(pairs)) == (count, expected)


@pytest.mark.parametrize(
    ("name", "instruction", "target"),
    [
        (
            "social_iqa",
            "Please choose the correct answer to the question: {context} {question}\n\n"
            "Answer1: {answerA} Answer2: {answerB} Answer3: {answerC}\n\nAnswer format: answer1/answer2/answer3",
            "answer{label}",
        ),
        (
            "hellaswag",
            "Please choose the correct ending to complete the given sentence: {activity_label}: {ctx}\n\n"
            "Ending1: {endings[0]} Ending2: {endings[1]} Ending3: {endings[2]} Ending4: {endings[3]}\n\n"
            "Answer format: ending1/ending2/ending3/ending4",
            None,
        ),
        (
            "winogrande",
            "Please choose the correct answer to fill in the blank to complete the given sentence: {sentence}\n\n"
            "Option1: {option1} Option2: {option2} Answer format: option1/option2",
            "option{answer}",
        ),
    ],
)
def test_the_instructions_of_the_other_tasks_are_spelled_out(tasks, splits, name, instruction, target):
    for doc in splits[name]["evaluate"].select(range(50)):
        assert tasks[name].doc_to_text(doc) == instruction.format(**doc)
        assert target is None or tasks[name].doc_to_target(doc) == target.format(**doc)


def test_documents_are_those_of_the_other_protocol(splits, tasks):
    for name, task in task_objects(splits).items():
        assert list(splits[name]["evaluate"]) == list(tasks[name].eval_docs)
        assert len(training_docs(task)) == len(training_docs(tasks[name]))


def test_an_example_is_an_instruction_in_alpacas_template_and_an_answer_that_ends(tasks, splits, tokenizer):
    for name, task in tasks.items():
        docs = list(splits[name]["train"].select(range(3)))
        for doc, (context, answer) in zip(docs, training_pairs(task, docs, end=tokenizer.eos_token), strict=True):
            assert context == PROMPT.format(task.doc_to_text(doc))
            assert answer == f"\nthe correct answer is {task.doc_to_target(doc)}</s>"
            assert examples.encode(tokenizer, name, context, answer, 4096).ids[-1] == tokenizer.eos_token_id


class Written(evaluate.Wrapped):
    """Keeps the tokens of every answer, cut at the end token, by prompt."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.answers = {}

    def _model_generate(self, context, max_length, stop, **kwargs):
        output = super()._model_generate(context, max_length, stop, **kwargs)
        for row, mask in zip(output.tolist(), kwargs["attention_mask"].tolist(), strict=True):
            prompt, answer = row[len(mask) - sum(mask) : len(mask)], row[len(mask) :]
            end = answer.index(self.eot_token_id) + 1 if self.eot_token_id in answer else len(answer)
            self.answers[tuple(prompt)] = answer[:end]
        return output


@pytest.fixture(scope="module")
def writer():
    """The tiny model in fp32 with larger weights, so that what it writes depends on the prompt."""
    model, tokenizer = models.load(models.TINY, "float32", "cpu")
    with torch.no_grad():
        for weight in model.model.layers.parameters():
            weight.mul_(8.0 if weight.dim() == 2 else 1.0)
    return model, tokenizer


def test_answers_written_in_a_left_padded_batch_are_those_written_one_by_one(writer, splits):
    few = task_objects(cut(splits, 3), "generative")
    model, tokenizer = writer
    kept, scored = {}, {}
    for size in (1, 8):
        told = []
        lm = Written(model, tokenizer, size, lambda done, total, told=told: told.append((done, total)))
        requests = [r for t in few.values() for r in prepared(t)]
        scored[size] = lm.generate_until(requests)
        kept[size] = lm.answers
        assert told[-1] == (24, 24) and len(told) == 24 // size
        read = sum(len(prompt) for prompt in lm.answers)
        assert lm.tokens == read + sum(len(answer) - 1 for answer in lm.answers.values())
    assert len({len(prompt) for prompt in kept[8]}) > 20 and len(kept[8]) == 24
    assert kept[1] == kept[8] and scored[1] == scored[8]
    assert len({tuple(answer) for answer in kept[8].values()}) > 12  # the prompt decides what is written
    assert all(0 < len(answer) <= 32 for answer in kept[8].values())


def prepared(task):
    """lm-eval's requests over the evaluation documents, as its evaluator makes them."""
    task.build_all_requests(rank=0, world_size=1)
    return task.instances


def test_writing_ends_at_the_end_token(writer, splits):
    model, tokenizer = writer
    requests = prepared(task_objects(cut(splits, 4), "generative")["boolq"])
    free = Written(model, tokenizer, 4, lambda done, total: None)
    free.generate_until(requests)
    first = next(iter(free.answers.values()))
    tokenizer = models.load(models.TINY, "float32", "cpu")[1]
    last = next(byte for byte in first[2:] if 32 < byte < 127)  # others decode to one replacement character
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(last)  # from now on this byte ends an answer
    ending = Written(model, tokenizer, 4, lambda done, total: None)
    ending.generate_until(requests)
    for prompt, answer in ending.answers.items():
        whole = free.answers[prompt]
        end = whole.index(last) + 1 if last in whole else len(whole)
        assert answer == whole[:end]
    assert min(map(len, ending.answers.values())) <= 5


@pytest.mark.parametrize(
    ("answer", "value", "unparseable"),
    [
        ("\nthe correct answer is true", 1.0, 0.0),
        (" it is true, not false", 1.0, 0.0),
        (" false is not true", 0.0, 0.0),
        ("untrue", 1.0, 0.0),  # as the released code reads it
        ("True", 0.0, 1.0),
        ("", 0.0, 1.0),
    ],
)
def test_the_first_match_is_the_answer_and_none_is_unparseable(splits, monkeypatch, tiny, answer, value, unparseable):
    split = splits["boolq"]
    yes = datasets.DatasetDict({name: part.filter(lambda d: d["label"]).select([0, 1]) for name, part in split.items()})
    monkeypatch.setattr(evaluate.Wrapped, "generate_until", lambda self, requests, **_: [answer] * len(requests))
    task = task_objects({"boolq": yes}, "generative")
    scores, *_ = evaluate.evaluate(*tiny, task, SUITE.metrics("generative"), 2)
    assert (scores["boolq"].value, scores["boolq"].all_metrics["unparseable"]) == (value, unparseable)
    assert scores["boolq"].metric == "exact_match" and scores["boolq"].stderr is not None


def test_the_protocol_is_part_of_the_spec_and_of_its_key():
    loglik, generative = (
        resolve(Request(model="tiny", methods="lora", device="cpu", protocol=p))[0] for p in (None, "generative")
    )
    assert (loglik.protocol, generative.protocol) == ("loglik", "generative")
    assert loglik.key != generative.key and loglik.tasks == generative.tasks


def test_a_protocol_is_refused_with_the_nearest_names():
    for asked, hint in (("generativ", "did you mean generative?"), ("chat", "known: generative, loglik")):
        with pytest.raises(ValueError, match=f"unknown protocol of suite commonsense '{asked}'; {hint}"):
            resolve(Request(model="tiny", device="cpu", protocol=asked))


def test_a_suite_has_a_protocol_only_where_each_of_its_tasks_is_defined():
    headline = {"boolq": "acc", "sst2": "acc"}
    other = suites.Suite(name="s", version="1", summary="-", tasks=("boolq", "sst2"), headline=headline)
    assert other.protocols == ("loglik",) and SUITE.protocols == ("loglik", "generative")
    assert other.metrics("loglik") == other.headline


def test_a_job_records_a_score_and_the_rate_of_unparseable_answers_for_each_task(splits, monkeypatch):
    monkeypatch.setattr(sources, "splits", lambda *_: cut(splits, 2))  # reading them all is what takes long
    request = Request(
        model="tiny", methods="lora", device="cpu", dtype="float32", protocol="generative", train_documents=8, limit=1
    )
    (spec,) = resolve(request)
    record = child.attempt(spec)
    assert (record.status, record.error) == ("done", None) and tuple(record.scores) == SUITE.tasks
    for found in record.scores.values():
        assert (found.metric, found.count, len(found.outcomes)) == ("exact_match", 1, 1) and 0 <= found.value <= 1
        assert found.all_metrics["unparseable"] == 1.0  # a model of random weights writes no answer
    assert len(record.losses) == 1 and record.costs["evaluate"].tokens > 8 * 32
