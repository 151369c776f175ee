"""A grid of learning rates stands beside the table, names its winner and its cost, and never becomes a row."""

from __future__ import annotations

import dataclasses

from synthetic_records import make_failed, make_record

from reports.analysis.groups import make_groups
from reports.analysis.tuning import tuning_rows, tuning_table
from results.table import markdown
from results.tuning import HELD_OUT, best, grid, grid_id

RATES = (1e-4, 3e-4, 1e-3)


def with_macro(record, value):
    scores = {t: dataclasses.replace(s, value=value) for t, s in record.scores.items()}
    return dataclasses.replace(record, scores=scores)


def held_out(method="lora", macros=(0.4, 0.5, 0.5)):
    return [
        with_macro(make_record(method, learning_rate=rate, split=HELD_OUT, count=20), macro)
        for rate, macro in zip(RATES, macros, strict=True)
    ]


def test_the_highest_macro_mean_wins_and_the_lower_rate_of_two_that_tie():
    assert best(held_out()).spec.learning_rate == 3e-4
    assert best([make_failed("lora", split=HELD_OUT)]) is None


def test_a_grid_changes_the_rate_and_the_split_and_nothing_else():
    spec = make_record("lora").spec
    jobs = grid(spec, RATES)
    assert [j.learning_rate for j in jobs] == list(RATES) and {j.split for j in jobs} == {HELD_OUT}
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
    failed = make_failed("lora", learning_rate=1e-4, split=HELD_OUT)
    (group,) = make_groups([failed, *held_out()[1:]])
    (table,) = tuning_table(group)
    assert not group.rows and table.rows[0][1] == "failed" and table.rows[0][4] == "0.0003"


def test_without_a_grid_there_is_no_table():
    (group,) = make_groups([make_record("lora")])
    assert tuning_table(group) == []
