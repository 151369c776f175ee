"""What lm-eval reports becomes a score with every choice's log-likelihood, or the reason why it cannot be one."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from benchmarks.jobs.scoring import gold_index, score

RESULTS = {"acc,none": 0.5, "acc_stderr,none": 0.1}


def task(kind="multiple_choice", choices=("yes", "nö"), **changes):
    return SimpleNamespace(
        OUTPUT_TYPE=kind,
        config=SimpleNamespace(target_delimiter=" "),
        doc_to_choice=lambda doc: list(choices),
        doc_to_target=lambda doc: doc["label"],
        multiple_input=False,
        higher_is_better=lambda: {"acc": True, "word_perplexity": False},
        **changes,
    )


def sample(*loglikelihoods, label=0, digest="0"):
    return {
        "doc_hash": digest * 64,
        "doc": {"label": label},
        "acc": 1.0,
        "resps": [[(value, False)] for value in loglikelihoods],
        "arguments": [("Right?", f" {text}") for text in ("yes", "nö")],
    }


@pytest.mark.parametrize("bad", [math.nan, -math.inf, math.inf])
def test_a_log_likelihood_that_is_not_finite_is_refused_with_its_document(bad):
    with pytest.raises(FloatingPointError, match=r"document 1: log-likelihoods .* are not finite"):
        score("acc", RESULTS, [sample(-1.0, -2.0), sample(-1.0, bad)], task())


def test_every_choice_is_kept_with_its_bytes_and_the_right_one():
    kept = score("acc", RESULTS, [sample(-1.0, -2.0), sample(-3.0, -4.12345678, label="nö")], task())
    assert kept.loglikelihoods == ((-1.0, -2.0), (-3.0, -4.123457))
    assert kept.choice_bytes == ((3, 3), (3, 3)) and kept.gold == (0, 1)  # ö has two bytes in UTF-8
    assert kept.answers is None and kept.direction == "higher"


def test_the_requests_of_mutual_information_are_no_choices():
    twice = sample(-1.0, -2.0, -0.5, -0.6)
    assert score("acc", RESULTS, [twice], task()).loglikelihoods == ((-1.0, -2.0),)


@pytest.mark.parametrize("label", [2, -1, "maybe", [0, 1]])
def test_a_document_without_a_single_right_choice_has_no_gold(label):
    assert gold_index(task(), {"label": label}) is None


def test_written_answers_are_kept_and_a_digest_stands_for_the_rest_of_long_ones():
    texts = (" 42\n", "a" * 300 + "b", "a" * 300 + "c")
    written = [
        {"doc_hash": f"{i}" * 64, "acc": 1.0, "resps": [[text]], "filtered_resps": ["42" if i == 0 else "[invalid]"]}
        for i, text in enumerate(texts)
    ]
    kept = score("acc", RESULTS, written, task("generate_until"))
    assert kept.all_metrics["unparseable"] == pytest.approx(2 / 3) and kept.loglikelihoods is None
    assert kept.answers[0] == "42" and kept.answers[1][:200] == "a" * 200
    assert kept.answers[1] != kept.answers[2] and len(kept.answers[1]) < 220


def test_a_headline_metric_that_is_not_reported_is_named():
    with pytest.raises(ValueError, match="metric 'acc_norm' is not reported; reported: acc"):
        score("acc_norm", {"acc,none": 0.5, "acc_stderr,none": "N/A"}, [], task())


def test_documents_that_occur_twice_keep_apart_in_the_outcomes():
    samples = [sample(-1.0, -2.0, digest="a"), {**sample(-2.0, -1.0, digest="a"), "acc": 0.0}]
    kept = score("acc", RESULTS, samples, task())
    assert kept.documents == ("a" * 12, "a" * 12 + ".2") and kept.outcomes == (1.0, 0.0) and kept.stderr == 0.1
