"""The figures on how far repeats lie apart, from made-up records."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from synthetic_records import make_record
from typer.testing import CliRunner

from benchmarks.studies import repeats


def with_train(factor):
    record = make_record("lora", layers=1)
    cost = replace(record.costs["train"], peak_resident_bytes=int(factor * 1e9), wall_seconds=10 * factor)
    return replace(record, costs={**record.costs, "train": cost})


def test_the_spread_is_the_largest_over_the_smallest():
    assert repeats.spread([100, 101, 102]) == pytest.approx(0.02)
    assert repeats.spread([5.0]) == 0 and repeats.spread([]) is None and repeats.spread([1.0, None]) is None


def test_the_command_prints_a_row_for_every_phase_and_keeps_the_figures(monkeypatch, tmp_path):
    records = [with_train(1.0), with_train(1.01), with_train(1.005)]
    monkeypatch.setattr(repeats, "repeated", lambda spec, times: records[:times])
    result = CliRunner().invoke(
        repeats.app, ["--model", "tiny", "--times", "3", "--out", str(tmp_path / "r.json")], catch_exceptions=False
    )
    (train,) = [line for line in result.stdout.splitlines() if " train " in line]
    assert "1,005.0" in train and train.count("1.00%") == 2
    phases = json.loads((tmp_path / "r.json").read_text())["phases"]
    assert phases["train"]["peak_bytes"] == [int(f * 1e9) for f in (1.0, 1.01, 1.005)] and list(phases) == list(
        repeats.PHASES
    )
