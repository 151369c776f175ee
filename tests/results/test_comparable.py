"""What may be compared and what makes a row: every field of a spec has one role, and roles do what they say."""

from __future__ import annotations

import dataclasses

import pytest
from synthetic_records import make_record, make_spec

from results import RunSpec
from results import comparable as c
from results.names import place


def test_every_field_of_a_spec_has_exactly_one_role():
    roles = [*c.IDENTITY, *c.ROW, *c.SEEDS, *c.AGREED, *c.TRAINED, *c.UNCOMPARED]
    assert sorted(roles) == sorted(field.name for field in dataclasses.fields(RunSpec))


def test_seeds_repeat_a_row_and_a_hyperparameter_makes_another():
    spec = make_spec()
    other_seed, other_rate = (
        dataclasses.replace(spec, seed=7, data_seed=7),
        dataclasses.replace(spec, learning_rate=1.0),
    )
    assert c.row_key(spec) == c.row_key(other_seed) and c.repeat_key(spec) == c.repeat_key(other_seed)
    assert c.row_key(spec) != c.row_key(other_rate) and c.repeat_key(spec) != c.repeat_key(other_rate)
    assert c.comparison_key(spec) == c.comparison_key(other_rate) == c.comparison_key(other_seed)
    assert c.row_labels([spec, other_seed], every=True) == ["lora", "lora"]
    assert c.comparison_key(spec) != c.comparison_key(dataclasses.replace(spec, dtype="float16"))


def test_another_model_under_one_name_does_not_agree():
    record = make_record("lora")
    other = dataclasses.replace(record, spec=dataclasses.replace(record.spec, model_content="b" * 12))
    assert c.agreement_fields(record)["model_content"] != c.agreement_fields(other)["model_content"]


def test_another_version_of_a_suite_does_not_agree_with_schema_1_which_has_none():
    spec = make_spec()
    new = dataclasses.replace(spec, suite_version="2")
    assert spec.key != new.key and c.comparison_key(spec) != c.comparison_key(new)
    for fields in (c.agreement_fields, c.cost_fields):
        old, now = (fields(dataclasses.replace(make_record("lora"), spec=s))["suite_version"] for s in (spec, new))
        assert (old, now) == (None, "2")


def test_training_fields_mean_nothing_where_nothing_was_trained():
    record = make_record("lora")
    untrained = dataclasses.replace(record, spec=dataclasses.replace(record.spec, epochs=0.0))
    assert "batch_size" in c.agreement_fields(record) and "batch_size" not in c.agreement_fields(untrained)


def test_labels_show_what_tells_rows_of_one_method_apart():
    one = make_spec(method="lora", hyperparameters={"r": 8, "alpha": 16})
    two = make_spec(method="lora", hyperparameters={"r": 4, "alpha": 16})
    assert c.row_labels([one, two]) == ["lora (r=8)", "lora (r=4)"] and c.row_labels([one]) == ["lora"]
    assert c.row_labels([one], always=lambda spec: {"alpha"}) == ["lora (alpha=16)"]


def test_a_block_has_one_layer_and_projection():
    from block_names import PLACES

    assert {block: place(block) for block in PLACES} == PLACES


def test_both_places_agree():
    pytest.importorskip("torch")
    from block_names import PLACES

    import smoe

    assert all(smoe.place(block) == place(block) for block in PLACES)
