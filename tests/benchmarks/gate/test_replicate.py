"""A row that is run again: the same job from its spec alone, and what is said of the difference."""

from __future__ import annotations

from dataclasses import replace

import pytest
from synthetic_records import make_failed, make_record
from typer.testing import CliRunner

from benchmarks import run
from benchmarks.gate import replicate
from reports.__main__ import app as reports
from reports.agree import agreements, beside
from results.store import Store

SMALL = ["--suite", "commonsense", "--model", "tiny", "--dtype", "float32", "--device", "cpu", "--no-report",
         "--train-documents", "16", "--limit", "2", "--methods", "lora"]  # fmt: skip


def changed(record, right):
    """The record with every answer right, or none."""
    count = {task: len(score.outcomes) for task, score in record.scores.items()}
    scores = {
        task: replace(score, value=float(right), outcomes=(float(right),) * count[task])
        for task, score in record.scores.items()
    }
    return replace(record, scores=scores)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A folder with the record of a small job, and its key."""
    folder = tmp_path_factory.mktemp("ran")
    result = CliRunner().invoke(run.app, [*SMALL, "--out", str(folder)], catch_exceptions=False)
    assert result.exit_code == 0
    return folder, Store(folder).all()[0].spec.key


def test_a_job_run_again_agrees_and_one_whose_record_was_changed_does_not(ran, tmp_path, capfd):
    folder, key = ran
    arguments = [key[:-2], "--records", str(folder), "--out", str(tmp_path / "again")]
    assert CliRunner().invoke(replicate.app, arguments, catch_exceptions=False).exit_code == 0
    said = capfd.readouterr().out
    assert said.count("agrees") == 3 and "0 of 16 answers changed" in said
    mine, theirs = (Store(place).load(key) for place in (folder, tmp_path / "again"))
    for task, score in mine.scores.items():
        assert theirs.scores[task].loglikelihoods == score.loglikelihoods
    other = tmp_path / "other"
    Store(other).save(changed(mine, right=True))
    arguments[2] = str(other)
    assert CliRunner().invoke(replicate.app, arguments, catch_exceptions=False).exit_code == 1
    assert "differs" in capfd.readouterr().out


def test_what_there_is_not_is_refused(ran, tmp_path):
    folder, key = ran
    for wrong in ("nothing", key[:-1] + "x"):
        result = CliRunner().invoke(replicate.app, [wrong, "--records", str(folder), "--out", str(tmp_path / "x")])
        assert result.exit_code == 2 and not (tmp_path / "x").exists()
    with pytest.raises(ValueError, match="several records begin with 'commonsense'"):
        replicate.chosen("commonsense", [make_record("lora", 0), make_record("lora", 1)], row=False)


def test_a_row_has_all_of_its_seeds_and_no_other_records():
    records = [make_record("lora", seed) for seed in (2, 0, 1)] + [
        make_record("molora", 0),
        make_failed("lora", seed=3),
    ]
    found = replicate.chosen(records[0].spec.key, records, row=True)
    assert [(r.spec.method, r.spec.seed) for r in found] == [("lora", 0), ("lora", 1), ("lora", 2)]


def test_seeds_and_documents_cross_and_an_interval_that_leaves_out_zero_differs():
    old = [make_record("lora", seed, layers=1) for seed in (0, 1)]
    same = agreements(old, old)
    assert [one.agrees for one in same] == [True] * len(same) and not same[0].about_models
    assert agreements(old[:1], old[:1])[0].about_models
    worse = [changed(record, right=False) for record in old]
    compared = agreements(old, worse)[0]
    assert compared.agrees is False and compared.again == 0 < compared.recorded
    assert beside(old, worse)[-1].endswith("answers changed from right to wrong or back")


def test_other_documents_and_failed_jobs_are_refused(tmp_path):
    old = make_record("lora", 0, layers=1)
    with pytest.raises(ValueError, match="answered other documents"):
        agreements([old], [make_record("lora", 0, layers=1, count=8)])
    with pytest.raises(ValueError, match="failed: "):
        agreements([old], [make_failed("lora")])
    with pytest.raises(ValueError, match="same seeds"):
        agreements([old], [make_record("lora", 1, layers=1)])
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    result = CliRunner().invoke(reports, ["agree", str(tmp_path / "a"), str(tmp_path / "b")])
    assert result.exit_code == 2 and "no record to compare" in result.output
