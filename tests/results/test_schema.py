"""The JSON Schema of a record is made from the dataclasses, is up to date, and every record meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from synthetic_records import make_failed, make_run

from results import record as module
from results import schema
from results.record import SCHEMA, Record, RecordError
from results.store import Store

RESULTS = Path(schema.__file__).parent
COMMITTED = sorted(path for folder in ("records", "baseline") for path in (RESULTS / folder).glob("*.json"))
VALIDATOR = jsonschema.Draft202012Validator(schema.schema())


def errors(body):
    return [error.message for error in VALIDATOR.iter_errors(body)]


def saved(record, folder):
    return json.loads(Store(folder).save(record).read_text())


def test_the_schema_is_a_schema_and_the_committed_one_is_up_to_date():
    jsonschema.Draft202012Validator.check_schema(schema.schema())
    done = subprocess.run([sys.executable, "-m", "results.schema", "--check"], cwd=RESULTS.parent, capture_output=True)
    assert done.returncode == 0, done.stdout


def test_an_outdated_schema_is_told(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(schema, "FILE", tmp_path / "record.schema.json")
    monkeypatch.setattr(sys, "argv", ["schema", "--check"])
    assert schema.main() == 1 and "out of date" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["schema", "--write"])
    assert schema.main() == 0 and json.loads(schema.FILE.read_text()) == schema.schema()


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_committed_record_meets_its_schema(path):
    body = json.loads(path.read_text())
    body.pop("digest", None)
    assert errors({**module.upgraded(body), "digest": "x"}) == []


def test_finished_and_failed_records_meet_it(tmp_path):
    records = [*make_run(layers=1), make_failed("dora")]
    assert [errors(saved(r, tmp_path)) for r in records] == [[]] * len(records)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: b.update(status="nearly"), "'nearly' is not one of"),
        (lambda b: b.update(schema=0), "was expected"),
        (lambda b: b.pop("costs"), "'costs' is a required property"),
        (lambda b: b.update(extra=1), "'extra' was unexpected"),
        (lambda b: b["spec"].update(seed="0"), "'0' is not of type 'integer'"),
        (lambda b: b["spec"].pop("dtype"), "'dtype' is a required property"),
        (lambda b: b["costs"]["load"].pop("tokens"), "'tokens' is a required property"),
    ],
)
def test_what_is_no_record_does_not_meet_it(tmp_path, change, said):
    body = saved(make_run(layers=1)[1], tmp_path)
    change(body)
    assert said in " ".join(errors(body))


def test_a_spec_from_before_a_field_came_still_meets_it(tmp_path):
    body = saved(make_run(layers=1)[1], tmp_path)
    del body["spec"]["match"]
    assert errors(body) == []


def test_every_earlier_version_has_its_reader():
    assert set(module.UPGRADES) == set(range(1, SCHEMA))


def test_a_record_of_an_earlier_version_is_read_through_every_upgrade(monkeypatch):
    """Version -1 called losses "loss" and had no error; version 0 had the error."""
    monkeypatch.setitem(module.UPGRADES, -1, lambda body: {**body, "error": None})
    monkeypatch.setitem(
        module.UPGRADES, 0, lambda body: {**{k: v for k, v in body.items() if k != "loss"}, "losses": body["loss"]}
    )
    record = make_run(layers=1)[1]
    body = json.loads(json.dumps(record.to_json()))
    body["loss"] = body.pop("losses")
    del body["error"]
    assert Record.from_json({**body, "schema": -1}) == Record.from_json(json.loads(json.dumps(record.to_json())))
    with pytest.raises(RecordError, match="schema 7 is not known .known: -1, 0, 1."):
        Record.from_json({**body, "schema": SCHEMA + 6})
