"""Shares of a mixture, drawing, and where a training example is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.data.examples import encode, sample_documents, shares

SIZES = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 50), min_size=1)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"), max_size=30)


@given(SIZES, st.integers(0, 500) | st.none(), st.sampled_from(["equal", "proportional", "temperature:3"]))
def test_shares_add_up_to_the_total_and_never_exceed_what_a_task_has(sizes, total, mixture):
    found = shares(sizes, total, mixture)
    everything = sum(sizes.values())
    assert list(found) == list(sizes)
    assert sum(found.values()) == (everything if total is None else min(total, everything))
    assert all(0 <= found[t] <= sizes[t] for t in sizes)


@given(SIZES, st.integers(0, 500))
def test_equal_shares_differ_by_one_at_most_unless_a_task_has_no_more(sizes, total):
    found = shares(sizes, total, "equal")
    for task, count in found.items():
        assert count == sizes[task] or count >= max(found.values()) - 1


@given(SIZES, st.integers(0, 500))
def test_proportional_shares_are_within_one_of_the_exact_ones(sizes, total):
    found, everything = shares(sizes, total, "proportional"), sum(sizes.values())
    for task, count in found.items():
        assert not everything or abs(count - min(total, everything) * sizes[task] / everything) < 1


def test_shares_of_a_small_case_by_hand():
    assert shares({"a": 1, "b": 9, "c": 9}, 10, "equal") == {"a": 1, "b": 5, "c": 4}
    assert shares({"a": 1, "b": 9, "c": 10}, 10, "proportional") == {"a": 1, "b": 4, "c": 5}
    assert shares({"a": 4, "b": 16, "c": 36}, 24, "temperature:2") == {"a": 4, "b": 8, "c": 12}
    assert shares({"a": 1, "b": 100, "c": 100}, 41, "temperature:100") == {"a": 1, "b": 20, "c": 20}


@given(SIZES, st.integers(0, 500))
def test_a_temperature_of_one_is_proportional(sizes, total):
    assert shares(sizes, total, "temperature:1") == shares(sizes, total, "proportional")


def test_unknown_shares_are_refused_by_name():
    for word in ("even", "temperature", "temperature:hot", "temperature:0", "equal:2"):
        with pytest.raises(ValueError, match=f"task_shares '{word}' is not one of: equal, proportional, temperature:T"):
            shares({"a": 3}, 1, word)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 5))
def test_a_larger_draw_contains_a_smaller_one_in_the_same_order(first, second, seed):
    few, many = sorted((first, second))
    items = list(range(60))
    assert sample_documents(items, few, seed, "boolq") == sample_documents(items, many, seed, "boolq")[:few]
    assert sorted(sample_documents(items, 60, seed, "boolq")) == items


def test_draws_depend_on_the_seed_and_on_the_task():
    items = list(range(60))
    draws = [sample_documents(items, 20, seed, task) for seed in (0, 1) for task in ("boolq", "piqa")]
    assert all(a != b for i, a in enumerate(draws) for b in draws[:i])


@given(context=TEXT, answer=TEXT.filter(str.strip), length=st.integers(2, 80))
def test_truncation_takes_from_the_left_and_never_from_the_answer(tokenizer, context, answer, length):
    context += ":"
    answer_bytes, whole = len(answer.encode()), (context + answer).encode()
    if answer_bytes >= length:
        with pytest.raises(ValueError, match=f"an answer of {answer_bytes} tokens does not fit max_length {length}"):
            encode(tokenizer, "task", context, answer, length)
        return
    example = encode(tokenizer, "task", context, answer, length)
    assert example.answer_tokens == answer_bytes
    assert tokenizer.decode(example.ids[-answer_bytes:]) == answer
    assert list(example.ids) == tokenizer(context + answer)["input_ids"][-length:]
    assert example.truncated == (len(whole) > length) and len(example.ids) == min(len(whole), length)


def test_trailing_spaces_of_the_prompt_belong_to_the_answer(tokenizer):
    example = encode(tokenizer, "task", "Answer:  ", "yes", 64)
    assert tokenizer.decode(example.ids[-example.answer_tokens :]) == "  yes"
    assert tokenizer.decode(example.ids) == "Answer:  yes"


def test_an_empty_answer_is_refused_with_its_task(tokenizer):
    with pytest.raises(ValueError, match="task piqa: an answer of 0 tokens"):
        encode(tokenizer, "piqa", "Question", "", 64)
