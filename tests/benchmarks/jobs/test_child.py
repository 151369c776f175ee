"""What a job leaves behind when its record may not go where it was asked to go."""

from __future__ import annotations

import json

import pytest

import results.store
from benchmarks.jobs import child
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from results import Record
from results.store import Store, StoreError


def test_a_record_that_its_folder_refuses_is_kept_in_scratch(tmp_path, monkeypatch, capsys):
    (spec,) = resolve(Request(methods="frozen", model="tiny", device="cpu"))
    record = Record(
        spec=spec, status="failed", error="made up", scores=None, parameters=None, costs={}, losses=None, facts={},
        data={}, environment={"git_dirty": True},
    )  # fmt: skip
    monkeypatch.setattr(child, "attempt", lambda spec, progress, own_process, keep: record)
    monkeypatch.setattr(child, "_end_with_parent", lambda: None)  # no parent here
    monkeypatch.setattr(child, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setattr(results.store, "RECORDS", tmp_path / "records")
    (tmp_path / "spec.json").write_text(json.dumps(spec.to_json()))
    (tmp_path / "records").mkdir()
    with pytest.raises(StoreError, match="uncommitted"):
        child.main(str(tmp_path / "spec.json"), str(tmp_path / "records"))
    assert Store(tmp_path / "scratch").all() == [record]
    assert "uncommitted" in capsys.readouterr().err and not list((tmp_path / "records").iterdir())


def test_a_job_whose_penalty_overflows_fails_with_the_method_and_the_step():
    request = Request(
        tasks="sst2,copa", methods="molora:balance_loss=1e308", model="tiny", device="cpu", dtype="float32",
        train_documents=4, limit=1, batch_size=2,
    )  # fmt: skip
    (spec,) = resolve(request)
    record = child.attempt(spec)
    assert record.status == "failed" and record.scores is None
    assert "FloatingPointError: molora: the norm of the gradient at step 1 is" in record.error
