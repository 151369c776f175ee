"""What lm-eval reports becomes a score, or the reason why it cannot be one."""

from __future__ import annotations

import math

import pytest

from benchmarks.jobs.scoring import score

RESULTS = {"acc,none": 0.5, "acc_stderr,none": 0.1}


def sample(*loglikelihoods):
    return {"doc_hash": "0" * 64, "acc": 1.0, "resps": [[(value, False)] for value in loglikelihoods]}


@pytest.mark.parametrize("bad", [math.nan, -math.inf, math.inf])
def test_a_log_likelihood_that_is_not_finite_is_refused_with_its_document(bad):
    with pytest.raises(FloatingPointError, match="document 1: log-likelihoods .* are not finite"):
        score("acc", RESULTS, [sample(-1.0, -2.0), sample(-1.0, bad)])


def test_finite_log_likelihoods_and_written_answers_are_scored():
    assert score("acc", RESULTS, [sample(-1.0, -2.0), sample(-3.0, -4.0)]).value == 0.5
    written = {"doc_hash": "0" * 64, "acc": 1.0, "resps": [["42"]], "filtered_resps": ["42"]}
    assert score("acc", RESULTS, [written], written=True).all_metrics["unparseable"] == 0
