"""A grid of learning rates stands beside the table, names its winner and its cost, and never becomes a row."""

from __future__ import annotations

import dataclasses
import math

import pytest
from synthetic_records import make_failed, make_record

from reports.analysis.groups import make_groups
from reports.analysis.notes import rates_note
from reports.analysis.tuning import tuned_rows, tuning_rows, tuning_table
from results.metrics import macro_bits_per_byte
from results.table import markdown
from results.tuning import HELD_OUT, best, beyond_edge, grid, grid_id

RATES = (1e-4, 3e-4, 1e-3)


def with_macro(record, value):
    scores = {t: dataclasses.replace(s, value=value) for t, s in record.scores.items()}
    return dataclasses.replace(record, scores=scores)


QUARTER = make_record("lora").spec.train_documents // 4


def held_out(method="lora", macros=(0.4, 0.5, 0.5)):
    return [
        with_macro(make_record(method, learning_rate=rate, split=HELD_OUT, count=20, train_documents=QUARTER), macro)
        for rate, macro in zip(RATES, macros, strict=True)
    ]


def test_the_highest_macro_mean_wins_and_the_lower_rate_of_two_that_tie():
    assert best(held_out()).spec.learning_rate == 3e-4
    assert best([make_failed("lora", split=HELD_OUT)]) is None


def with_bits(record, bits):
    """Every document's right choice, of four bytes, costs this many bits a byte."""
    scores = {
        task: dataclasses.replace(
            s, loglikelihoods=((-4 * bits * math.log(2), -99.0),) * s.count, choice_bytes=((4, 4),) * s.count,
            gold=(0,) * s.count,
        )
        for task, s in record.scores.items()
    }  # fmt: skip
    return dataclasses.replace(record, scores=scores)


def test_bits_per_byte_choose_where_there_are_any_whatever_the_accuracy():
    records = [with_bits(r, bits) for r, bits in zip(held_out(), (1.0, 0.8, 0.9), strict=True)]
    assert macro_bits_per_byte(records[0]) == pytest.approx(1.0)
    assert best(records).spec.learning_rate == 3e-4
    records = [with_bits(r, bits) for r, bits in zip(held_out(macros=(0.9, 0.1, 0.1)), (1.0, 0.8, 0.7), strict=True)]
    assert best(records).spec.learning_rate == 1e-3


def test_one_rate_beyond_the_edge_is_tried_and_none_inside():
    records = held_out(macros=(0.3, 0.5, 0.4))
    assert beyond_edge(records, best(records)) is None
    lowest, highest = held_out(macros=(0.9, 0.5, 0.4)), held_out(macros=(0.1, 0.5, 0.9))
    assert beyond_edge(lowest, best(lowest)) == pytest.approx(1e-4 / 2.52, rel=0.01)
    assert beyond_edge(highest, best(highest)) == pytest.approx(1e-3 * 2.52, rel=0.01)
    (group,) = make_groups([make_record("lora"), *highest])
    (table,) = tuning_table(group)
    assert table.rows[0][4] == "0.001 (edge)"


def test_a_grid_changes_the_rate_the_split_and_the_size_and_nothing_else():
    spec = make_record("lora").spec
    jobs = grid(spec, RATES)
    assert [j.learning_rate for j in jobs] == list(RATES) and {j.split for j in jobs} == {HELD_OUT}
    assert {j.train_documents for j in jobs} == {QUARTER}
    assert {grid_id(j) for j in jobs} == {grid_id(spec)}
    assert grid_id(dataclasses.replace(spec, batch_size=1)) != grid_id(spec)


def test_jobs_of_a_grid_are_no_rows_and_stand_in_a_table_of_their_own():
    records = [make_record("frozen"), make_record("lora", learning_rate=3e-4), *held_out()]
    (group,) = make_groups(records)
    assert [row.label for row in group.rows] == ["frozen", "lora"]
    assert [len(row.done) for row in group.rows] == [1, 1] and len(group.tuning) == 3
    (table,) = tuning_table(group)
    assert table.columns == ("Method", "0.0001", "0.0003", "0.001", "Chosen", "Grid (s)")
    assert table.rows[0][4] == "0.0003" and table.bold == {(0, 2)}
    assert float(table.rows[0][5]) == round(sum(r["total_seconds"] for r in tuning_rows(group)), 1)
    assert "160 held-out training documents" in markdown(table)


def test_a_grid_alone_or_half_failed_is_shown_as_it_is():
    failed = make_failed("lora", learning_rate=1e-4, split=HELD_OUT, train_documents=QUARTER)
    (group,) = make_groups([failed, *held_out()[1:]])
    (table,) = tuning_table(group)
    assert not group.rows and table.rows[0][1] == "failed" and table.rows[0][4] == "0.0003"


def test_without_a_grid_there_is_no_table():
    (group,) = make_groups([make_record("lora")])
    assert tuning_table(group) == []


def test_of_two_rows_of_one_method_the_one_at_the_winning_rate_is_the_tuned_one():
    rates = (3e-4, 1e-3)
    rows = [dataclasses.replace(make_record("lora", learning_rate=rate), losses=(2.0, 1.0)) for rate in rates]
    (group,) = make_groups([*rows, *held_out()])  # 3e-4 wins
    winner = next(row.label for row in group.rows if row.done[0].spec.learning_rate == 3e-4)
    assert {r["method"] for r in tuning_rows(group)} == tuned_rows(group) == {winner}


def test_rows_that_were_not_tuned_are_named():
    def note(records):
        (group,) = make_groups(records)
        return rates_note(group)

    trained = [dataclasses.replace(make_record(m), losses=(2.0, 1.0)) for m in ("lora", "molora")]
    assert note(trained) == "No learning rate was tuned: all rows are at 0.001."
    assert note([*trained, *held_out()]) == "No learning rate was tuned: all rows are at 0.001."  # 3e-4 won
    last = (0.4, 0.5, 0.6)
    assert note([*trained, *held_out(macros=last)]) == "Learning rate not tuned: molora."
    both = [*trained, *held_out(macros=last), *held_out("molora", last)]
    assert note(both) == "Learning rates were chosen on held-out training documents, for every row."
