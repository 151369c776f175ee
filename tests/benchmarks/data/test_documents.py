"""What ties documents together, and the order of evaluation documents, against plain computations."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.data import sources
from benchmarks.data.documents import NEAR, SHINGLE, groups, near_duplicates, normalised, stratified
from benchmarks.data.embedded import EMBEDDED

LABELLED = [task for task, layout in EMBEDDED.items() if layout.strata]


def shingles(text):
    words = text.split()
    return {tuple(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}


def jaccard(one, other):
    return len(one & other) / len(one | other)


def is_one_partition(names, others):
    """Whether two ways of naming groups put the same documents together."""
    return len(set(zip(names, others, strict=True))) == len(set(names)) == len(set(others))


def test_near_duplicates_are_all_pairs_of_a_jaccard_similarity_and_what_they_are_chained_to():
    rng = random.Random(0)
    texts = []
    for _ in range(12):  # a text, and copies in which more and more words are others
        words = [f"w{rng.randrange(500)}" for _ in range(60)]
        texts.extend(
            " ".join(f"x{i}" if i in rng.sample(range(60), changes) else w for i, w in enumerate(words))
            for changes in (0, 1, 2, 4, 8)
        )
    texts += ["few words", "few words", "few", ""]
    numbers = list(range(len(texts)))
    for i, j in itertools.combinations(range(len(texts)), 2):
        if jaccard(shingles(texts[i]), shingles(texts[j])) >= NEAR:
            numbers = [numbers[i] if n == numbers[j] else n for n in numbers]
    assert 12 < len(set(numbers)) < len(set(texts))  # some of the copies are near enough, others are not
    assert is_one_partition(near_duplicates(texts), numbers)


def test_documents_of_one_text_or_of_one_source_have_one_group_named_by_its_first_text():
    texts, source = ["b", "a", "b", "c", "d"], ["v1", "v2", "v2", "v3", "v4"]
    assert groups(texts) == texts
    assert groups(texts, [source]) == ["a", "a", "a", "c", "d"]
    assert groups([]) == near_duplicates([]) == []


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), max_size=60), st.randoms())
def test_every_prefix_has_the_shares_of_the_whole_whatever_the_order_of_reading(kinds, rng):
    docs = [{"i": i, "label": label, "kind": kind} for i, (label, kind) in enumerate(kinds)]
    ordered = stratified(docs, ("label", "kind"))
    assert sorted(d["i"] for d in ordered) == list(range(len(docs)))
    for length in range(1, len(docs) + 1):
        counts = Counter(d["label"] for d in ordered[:length])
        for label, total in Counter(d["label"] for d in docs).items():
            assert abs(counts[label] - length * total / len(docs)) <= 1 + 1e-9
    assert ordered == stratified(rng.sample(docs, len(docs)), ("label", "kind"))


@pytest.mark.parametrize("task", LABELLED)
def test_sixteen_evaluation_documents_of_a_task_have_its_base_rates(task):
    labels = [str(d[EMBEDDED[task].strata[0]]) for d in sources.splits("embedded", (task,))[task]["evaluate"]]
    for length in (16, 47, 200):
        prefix = Counter(labels[:length])
        for label, total in Counter(labels).items():
            assert abs(prefix[label] - min(length, len(labels)) * total / len(labels)) <= 1


def test_documents_of_hellaswag_from_one_article_or_video_stand_on_one_side():
    split = sources.splits("embedded", ("hellaswag",))["hellaswag"]
    trained, evaluated = ({d["source_id"] for d in split[part]} for part in ("train", "evaluate"))
    assert not trained & evaluated and min(len(trained), len(evaluated)) > 4000


def test_no_passage_of_boolq_has_a_near_duplicate_on_the_other_side():
    split = sources.splits("embedded", ("boolq",))["boolq"]
    trained = [shingles(normalised(p)) for p in sorted({d["passage"] for d in split["train"]})]
    places = {}
    for i, passage in enumerate(trained):
        for shingle in passage:
            places.setdefault(shingle, []).append(i)
    for passage in {d["passage"] for d in split["evaluate"]}:
        own = shingles(normalised(passage))
        for i in {i for shingle in own for i in places.get(shingle, ())}:
            assert jaccard(own, trained[i]) < NEAR


@pytest.fixture
def articles(monkeypatch):
    """HellaSwag as the hub has it: own splits, of which three documents to train on were made from evaluated ones."""

    def document(i, source):
        return {"ctx": f"Context {i}", "source_id": f"wikihow~{source}", "label": str(i % 4), "split_type": "indomain"}

    train = [document(i, i) for i in range(20)] + [document(20, 103), document(21, 103), document(101, 22)]
    evaluate = [document(i, i) for i in range(100, 106)]
    monkeypatch.setattr(sources, "_read", lambda *_: (train, evaluate, None))
    return train, evaluate


def test_the_leak_check_counts_and_takes_out_documents_that_share_a_text_or_a_source(articles):
    assert sources.leaks("hellaswag", *articles) == {"text": 1, "source": 1}
    split = sources.splits("hub", ("hellaswag",))["hellaswag"]
    assert sorted(int(d["ctx"].split()[1]) for d in split["train"]) == list(range(20))
    assert sources.leaks("hellaswag", list(split["train"]), list(split["evaluate"])) == {"text": 0, "source": 0}


def test_no_group_is_both_trained_on_and_held_out():
    split = sources.splits("embedded", ("hellaswag",), "held-out")["hellaswag"]
    assert not {d["source_id"] for d in split["train"]} & {d["source_id"] for d in split["evaluate"]}


def test_a_task_without_a_layout_is_stratified_by_its_target_column(monkeypatch):
    docs = [{"text": f"{i}", "answer": "no" if i < 15 else "yes"} for i in range(60)]
    monkeypatch.setattr(sources, "settings", lambda task: {"doc_to_target": "{{answer}}"})
    assert sources._strata("own", docs) == ("answer",)
    assert sources._strata("own", [{"text": str(i), "answer": str(i)} for i in range(60)]) == ()
    monkeypatch.setattr(sources, "settings", lambda task: {"doc_to_target": 3})
    assert sources._strata("own", docs) == ()
