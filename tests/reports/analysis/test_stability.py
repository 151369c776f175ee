"""Overlap, chance and rank correlation of allocations: hand-computed, simulated, and drawn."""

from __future__ import annotations

import math
import random

import pytest

from reports.analysis.stability import (
    DRAW,
    SMALLER,
    answers,
    chance_overlap,
    load_stability,
    overlap,
    rank_correlation,
    stability_frame,
)
from reports.figures.stability import draw_stability
from reports.render.stability import stability_table, write_stability
from results.record import RecordError
from results.studies.stability import QUESTION, YES, Stability


def measured(allocations, method="lora-smoe", **changes):
    fields = {
        "suite": "commonsense", "source": "embedded", "model": "tiny", "dtype": "float32", "method": method,
        "hyperparameters": {"r": 8}, "max_length": 256, "allocations": allocations,
        "seconds": dict.fromkeys(allocations, 0.5), "environment": {"git_commit": "c0ffee"},
    }  # fmt: skip
    return Stability(**{**fields, **changes})


def test_overlap_counts_the_experts_that_stand_in_the_same_blocks():
    a, b = {"q": 3, "k": 1, "v": 0}, {"q": 1, "k": 1, "v": 2}
    assert overlap(a, b) == 0.5  # one in q, one in k, of four
    assert overlap(a, a) == 1.0
    assert overlap({"q": 4, "k": 0, "v": 0}, {"q": 0, "k": 0, "v": 4}) == 0.0


def test_chance_is_what_dealing_at_random_gives():
    rng = random.Random(0)
    a = {f"b{i}": rng.choice((0, 0, 1, 4, 8)) for i in range(40)}
    b = {f"b{i}": rng.choice((0, 2, 3, 3)) for i in range(40)}
    dealt = []
    for _ in range(4000):
        values = rng.sample(list(b.values()), len(b))
        dealt.append(overlap(a, dict(zip(b, values, strict=True))))
    assert sum(dealt) / len(dealt) == pytest.approx(chance_overlap(a, b), abs=0.004)
    assert chance_overlap({"q": 2, "k": 2}, {"q": 2, "k": 2}) == 1.0  # an even allocation overlaps whatever is done


def test_rank_correlation_follows_blocks_by_name_and_not_by_place():
    a, b = {"q": 1, "k": 2, "v": 3}, {"v": 30, "q": 10, "k": 20}
    assert rank_correlation(a, b) == pytest.approx(1.0)
    assert rank_correlation(a, {"q": 3, "k": 2, "v": 1}) == pytest.approx(-1.0)
    assert math.isnan(rank_correlation(a, {"q": 2, "k": 2, "v": 2}))


def test_allocations_over_other_blocks_are_refused():
    with pytest.raises(ValueError, match="over different blocks"):
        overlap({"q": 1}, {"k": 1})


def test_every_pair_of_draws_and_every_smaller_probe_is_a_row():
    allocations = {(seed, n): {"q": n + seed, "k": 4, "v": 1} for seed in (0, 1, 2) for n in (1, 2, 4)}
    pairs = stability_frame([measured(allocations)])
    assert (pairs["kind"] == DRAW).sum() == 3 * 3  # three pairs of draws for each of three sizes
    assert (pairs["kind"] == SMALLER).sum() == 3 * 2  # the largest is not compared with itself
    table = stability_table(pairs, "a title")
    assert len(table.rows) == 5 and table.rows[0][:4] == ("lora-smoe", DRAW, "1", "3")
    figure = draw_stability(pairs, "a title")
    assert len(figure.axes) == 2


@pytest.mark.parametrize(
    ("other", "rho", "word"),
    [((1, 2, 3, 4, 5), 1.0, "yes"), ((3, 1, 2, 4, 5), 0.7, "undecided"), ((5, 4, 3, 2, 1), -1.0, "no")],
)
def test_the_answer_goes_by_the_declared_agreement_of_two_draws(other, rho, word, tmp_path):
    blocks = "qkvod"
    first = dict(zip(blocks, range(1, 6), strict=True))
    draws = {(0, 1): first, (1, 1): first, (0, 8): first, (1, 8): dict(zip(blocks, other, strict=True))}
    even = measured({(seed, 8): dict.fromkeys(blocks, 3) for seed in (0, 1)}, method="molora")
    own, none = answers(stability_frame([measured(draws), even]))
    assert own.startswith(f"lora-smoe: {word}. At 8 samples a task agreement is {rho:.2f}; ")
    assert none == "molora: undecided. Its allocations are the same in every block."
    write_stability([measured(draws), even], tmp_path, ())
    page = (tmp_path / "stability.md").read_text()
    assert QUESTION in page and f"lora-smoe: {word}" in page and f"- Yes: {YES}" in page


def test_a_measurement_survives_writing_and_reading(tmp_path):
    one = measured({(0, 1): {"q": 3}, (1, 16): {"q": 2}})
    one.save(tmp_path)
    (back,) = load_stability(tmp_path)
    assert back == one and back.name == one.name
    assert measured({}, hyperparameters={"r": 4}).name != one.name


def test_a_file_that_is_none_is_named(tmp_path):
    (tmp_path / "half.json").write_text('{"schema": 1, "suite": "commonsense"')
    with pytest.raises(RecordError, match=r"half.json is no stability measurement"):
        load_stability(tmp_path)
