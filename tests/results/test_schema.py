"""The JSON Schema of a record is made from the classes, is up to date, and every record of this version meets it."""

from __future__ import annotations

import json

import jsonschema
import pytest
from synthetic_records import make_failed, make_run

import results.record
from results.record import json_schema
from results.store import Store

VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def errors(body):
    return [error.message for error in VALIDATOR.iter_errors(body)]


def saved(record, folder):
    return json.loads(Store(folder).save(record).read_text())


def test_the_committed_schema_is_that_of_the_classes():
    file = results.record.__file__.replace("record.py", "records/record.schema.json")
    jsonschema.Draft202012Validator.check_schema(json_schema())
    with open(file) as text:
        assert json.load(text) == json_schema(), "run: python -m results schema > results/records/record.schema.json"


def test_finished_and_failed_records_meet_it(tmp_path):
    records = [*make_run(layers=1), make_failed("dora")]
    assert [errors(saved(r, tmp_path)) for r in records] == [[]] * len(records)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: b.update(status="nearly"), "'nearly' is not one of"),
        (lambda b: b.update(schema=1), "was expected"),
        (lambda b: b.pop("costs"), "'costs' is a required property"),
        (lambda b: b.pop("digest"), "'digest' is a required property"),
        (lambda b: b.update(extra=1), "'extra' was unexpected"),
        (lambda b: b["spec"].update(seed="0"), "'0' is not of type 'integer'"),
        (lambda b: b["spec"].update(mixture="equal"), "'mixture' was unexpected"),
        (lambda b: b["spec"].pop("dtype"), "'dtype' is a required property"),
        (lambda b: b["costs"]["load"].pop("tokens"), "'tokens' is a required property"),
        (lambda b: b["costs"]["load"].update(wall_seconds=-1), "less than the minimum"),
    ],
)
def test_what_is_no_record_does_not_meet_it(tmp_path, change, said):
    body = saved(make_run(layers=1)[1], tmp_path)
    change(body)
    assert said in json.dumps([f"{e.message} {[c.message for c in e.context]}" for e in VALIDATOR.iter_errors(body)])


def test_a_spec_from_before_a_field_came_still_meets_it(tmp_path):
    body = saved(make_run(layers=1)[1], tmp_path)
    del body["spec"]["match"]
    assert errors(body) == []
