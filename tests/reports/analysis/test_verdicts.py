"""Measures by hand, losses with their autocorrelation, and the four verdicts in both questions."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from synthetic_records import make_record

from reports.analysis import measures, verdicts
from reports.analysis.answer import answer
from reports.analysis.crossed import Estimate
from reports.analysis.groups import make_groups
from reports.analysis.verdicts import (
    BETTER,
    EQUIVALENT,
    LOSS,
    UNDECIDED,
    WORSE,
    autocorrelation_robust,
    judge_rows,
    paired_losses,
    verdict,
)
from reports.render.verdicts import guess_tables, verdict_rows, verdict_tables
from results.metrics import bits_per_byte, margin_per_byte

LN2 = math.log(2)


def with_choices(score, right, wrong=-8.0, size=4):
    """Two choices of `size` bytes a document; log-likelihoods in bits."""
    right = np.broadcast_to(right, score.count)
    return dataclasses.replace(
        score,
        loglikelihoods=tuple((float(x) * LN2, wrong * LN2) for x in right),
        choice_bytes=((size, size),) * score.count,
        gold=(0,) * score.count,
    )


def record(method, seed=0, right=-4.0, **changes):
    made = make_record(method, seed=seed, count=40, **changes)
    noise = np.random.default_rng(seed).normal(0, 0.01, 40)
    return dataclasses.replace(made, scores={t: with_choices(s, right + noise) for t, s in made.scores.items()})


def test_measures_of_one_document_by_hand():
    score = next(iter(make_record("lora", count=1).scores.values()))
    score = dataclasses.replace(
        score, loglikelihoods=((-4 * LN2, -6 * LN2, -9 * LN2),), choice_bytes=((4, 2, 3),), gold=(0,)
    )
    assert bits_per_byte(score) == [pytest.approx(1.0)]
    assert margin_per_byte(score) == [pytest.approx(-1.0 + 3.0)]
    shares = np.array([2**-4, 2**-6, 2**-9])
    shares /= shares.sum()
    assert measures.PROBABILITY.of(score)[0] == pytest.approx(shares[0])
    assert measures.BRIER.of(score)[0] == pytest.approx((shares[0] - 1) ** 2 + shares[1] ** 2 + shares[2] ** 2)
    assert measures.chance(score) == pytest.approx(1 / 3) and measures.majority(score) is None


def test_yes_and_no_have_a_majority_and_a_balanced_accuracy():
    score = next(iter(make_record("lora", count=4).scores.values()))
    score = dataclasses.replace(
        score, outcomes=(1.0, 1.0, 1.0, 0.0), value=0.75, loglikelihoods=((-1.0, -2.0),) * 4,
        choice_bytes=((2, 3),) * 4, gold=(0, 0, 0, 1),
    )  # fmt: skip
    assert measures.majority(score) == 0.75 and measures.balanced_accuracy(score) == 0.5
    assert measures.chance(score) == 0.5


def test_a_document_without_a_right_choice_is_left_out():
    score = next(iter(make_record("lora", count=2).scores.values()))
    score = dataclasses.replace(with_choices(score, -4.0), gold=(None, 0))
    assert bits_per_byte(score) == [pytest.approx(1.0)]


@pytest.mark.parametrize(
    ("value", "stderr", "word"),
    [(0.05, 0.01, BETTER), (-0.05, 0.01, WORSE), (0.001, 0.001, EQUIVALENT), (0.005, 0.02, UNDECIDED),
     (0.008, 0.0005, EQUIVALENT)],
)  # fmt: skip
def test_the_four_verdicts(value, stderr, word):
    assert verdict(Estimate(value, stderr, 1000), 0.01, higher=True) == word
    mirrored = {BETTER: WORSE, WORSE: BETTER}.get(word, word)
    assert verdict(Estimate(value, stderr, 1000), 0.01, higher=False) == mirrored


def test_equivalence_is_two_one_sided_tests_at_five_percent():
    barely = 1.6449 * 0.005  # the 95% quantile of the normal distribution
    assert verdict(Estimate(0.0, 0.005, math.inf), barely * 1.001, True) == EQUIVALENT
    assert verdict(Estimate(0.0, 0.005, math.inf), barely * 0.999, True) == UNDECIDED
    assert verdict(None, 0.01, True) == UNDECIDED


def test_newey_and_west_see_that_neighbours_go_together():
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 1, 600)
    walk = np.convolve(noise, np.ones(5) / 5, mode="valid")  # moving average: errors of the mean grow by sqrt(5)
    assert autocorrelation_robust(noise).stderr == pytest.approx(1 / math.sqrt(600), rel=0.2)
    naive = walk.std(ddof=1) / math.sqrt(len(walk))
    assert autocorrelation_robust(walk).stderr > 1.6 * naive


def test_losses_are_paired_over_steps_after_the_start():
    one, other = (
        dataclasses.replace(make_record(m), losses=tuple(3.0 - lead + 0.01 * (i % 3) for i in range(100)))
        for m, lead in (("lora", 0.0), ("molora", 0.5))
    )
    pair = paired_losses([other], [one])
    assert pair.value == pytest.approx(-0.5) and pair.documents == 90 and pair.method is None
    assert paired_losses([dataclasses.replace(other, losses=other.losses[:50])], [one]) is None


def test_one_seed_speaks_of_models_and_several_of_the_method():
    (group,) = make_groups([record("lora"), record("molora", right=-4.4)])
    (judged,) = judge_rows(group.rows, group.tasks, group.rows[0], measures.LEARNING)
    assert judged.word == WORSE and judged.about_models
    seeds = [record(m, seed=s, right=right) for m, right in (("lora", -4.0), ("molora", -4.4)) for s in range(3)]
    (group,) = make_groups(seeds, allow=["training_data", "data_seed"])
    (judged,) = judge_rows(group.rows, group.tasks, group.rows[0], measures.LEARNING)
    assert (
        judged.word == WORSE
        and not judged.about_models
        and judged.paired.seeds == 3
        and judged.paired.value == pytest.approx(0.1)
    )
    words = " ".join(answer(group).decided)
    assert "In bits per byte, worse than lora: molora." in words


def test_a_table_says_once_that_one_seed_is_about_models_and_marks_rows_where_some_have_more():
    (group,) = make_groups([record("lora"), record("molora", right=-4.4)])
    table = next(t for t in verdict_tables(group) if t.title.startswith("Bits"))
    assert table.columns[:3] == ("Method", "Verdict", "Seeds") and "The method" not in table.columns
    assert table.rows[0][:3] == ("molora", "worse", "1 (0)") and "these trained models only" in table.notes[1]
    several = [record(m, seed=s, right=right) for m, right in (("lora", -4.0), ("molora", -4.4)) for s in range(3)]
    (group,) = make_groups([*several, record("dora")], allow=["training_data", "data_seed"])
    table = next(t for t in verdict_tables(group) if t.title.startswith("Bits"))
    cells = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert cells["molora"]["Verdict"] == "worse" and cells["molora"]["Seeds"] == "3 (0, 1, 2)"
    assert cells["dora"]["Verdict"].endswith(" (these models)") and cells["dora"]["The method"] == "–"


def test_what_a_seed_moves_is_no_verdict_about_the_method():
    """Each model's lead is sure over its documents, and its sign depends on the seed."""
    shifts = {"lora": (0, 0, 0), "molora": (0.4, -0.5, 0.3)}
    seeds = [record(m, seed=s, right=-4.0 + shifts[m][s]) for m in shifts for s in range(3)]
    (group,) = make_groups(seeds, allow=["training_data", "data_seed"])
    (judged,) = judge_rows(group.rows, group.tasks, group.rows[0], measures.LEARNING)
    assert judged.paired.models.stderr < 0.001 and judged.word == UNDECIDED


def test_tables_and_rows_hold_both_intervals_and_records_without_choices_have_no_such_table():
    (group,) = make_groups([record("lora"), record("molora", right=np.linspace(-4.1, -3.8, 40))])
    titles = [table.title for table in verdict_tables(group)]
    assert "Bits per byte: difference to lora" in titles and "Margin per byte: difference to lora" in titles
    (row,) = [r for r in verdict_rows(group) if r["measure"] == "bits_per_byte"]
    assert row["models_low"] < row["difference"] < row["models_high"] and row["method_low"] is None
    (group,) = make_groups([make_record("lora"), make_record("molora")])
    assert not [t for t in verdict_tables(group) if "byte" in t.title]
    assert LOSS.name in verdicts.margins() and set(verdicts.margins()) == {"accuracy", "bits_per_byte",
                                                                          "margin_per_byte", "loss"}  # fmt: skip


def test_every_measure_is_a_row_of_each_task_and_of_the_macro_mean():
    (group,) = make_groups([record("lora"), record("molora", right=-4.4), make_record("dora", count=40)])
    rows = {(r["method"], r["task"], r["measure"]): r for r in measures.measure_rows(group.rows, group.tasks)}
    for measure in measures.MEASURES:
        parts = [rows["lora", task, measure.name] for task in group.tasks]
        macro = rows["lora", "macro", measure.name]
        assert macro["value"] == pytest.approx(np.mean([r["value"] for r in parts]))
        assert macro["documents"] == 40 * len(group.tasks) and macro["stderr"] < parts[0]["stderr"]
    assert rows["molora", "macro", "bits_per_byte"]["value"] == pytest.approx(1.1, abs=0.01)
    assert {measure for method, _, measure in rows if method == "dora"} == {"accuracy"}  # it holds no choices


def test_guessing_stands_in_the_form_of_the_main_table_and_yes_and_no_are_balanced():
    made = record("lora")
    yes_and_no = dataclasses.replace(
        with_choices(made.scores["boolq"], -4.0), gold=(0, 0, 0, 1) * 10, outcomes=(1.0, 1.0, 1.0, 0.0) * 10, value=0.75
    )
    three = {
        task: dataclasses.replace(s, loglikelihoods=((-1.0, -2.0, -3.0),) * 40, choice_bytes=((1, 2, 3),) * 40)
        for task, s in made.scores.items()
    }
    (group,) = make_groups([dataclasses.replace(made, scores={**three, "boolq": yes_and_no})])
    guesses, balanced = guess_tables(group)
    rows = {row[0]: dict(zip(guesses.columns, row, strict=True)) for row in guesses.rows}
    assert rows["chance"]["boolq"] == "50.0" and rows["chance"]["piqa"] == "33.3"
    assert rows["majority"]["boolq"] == "75.0" and rows["majority"]["piqa"] == "–"
    assert rows["majority"]["Macro mean"] == f"{(75 + 7 * 100 / 3) / 8:.1f}"
    assert balanced.columns == ("Method", "boolq", "boolq, balanced")
    assert balanced.rows[-2:] == (("majority", "75.0", "50.0"), ("lora", "75.0", "50.0"))
    assert guess_tables(make_groups([make_record("lora")])[0]) == []
