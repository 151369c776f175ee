"""Which method to take within limits: measured where the records' model is meant, carried over to another."""

from __future__ import annotations

import json

import pytest
from synthetic_records import make_run
from typer.testing import CliRunner

from reports.__main__ import app
from reports.analysis.costs import choose
from reports.analysis.costs.arithmetic import Adapter, kept_bytes, static_bytes
from reports.analysis.groups import make_groups
from results.store import Store

LIMITS = {"10M": 1e7, "500k": 5e5, "2.5b": 2.5e9, "12": 12.0}


@pytest.fixture(scope="module")
def group():
    (made_of,) = make_groups(make_run(), (), ())
    return made_of


@pytest.mark.parametrize(("text", "value"), LIMITS.items())
def test_parameters_are_read_as_people_write_them(text, value):
    assert choose.amount(text, "parameters") == value


@pytest.mark.parametrize(("text", "value"), [("8GB", 8e9), ("8g", 8e9), ("1.5GiB", 1.5 * 2**30), ("500 MB", 5e8)])
def test_memory_is_read_as_people_write_it(text, value):
    assert choose.amount(text, "memory") == value


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "8XB", "8GBB"])
def test_what_is_no_amount_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="expected a number above 0 such as 8GB"):
        choose.amount(text, "memory")


def test_rows_within_the_limits_come_first_most_accurate_on_top_and_the_others_say_why(group):
    params = {s.row.label: s.metrics["trainable_params"] for s in group.summaries}
    limit = sorted(params.values())[2]
    made_of = choose.choices(group, limit, None)
    inside = [c.summary.macro for c in made_of if not c.refusal]
    assert inside == sorted(inside, reverse=True) and len(inside) == sum(p <= limit for p in params.values())
    assert {c.refusal for c in made_of} == {"", "parameters above the limit"}
    assert choose.chosen_text(group, made_of).startswith(f"Take {made_of[0].summary.row.label}:")
    assert "No method of these records is within" in choose.chosen_text(group, choose.choices(group, None, 1.0))


def test_who_is_shown_to_be_worse_is_not_called_near(group):
    made_of = choose.choices(group, None, None)
    best = made_of[0].summary.row.label
    said = choose.chosen_text(group, made_of).partition("Not shown to be worse: ")[2].partition(";")[0]
    assert set(said.rstrip(".").split(", ")) - {""} == {c.summary.row.label for c in made_of[1:]} - group.outdone[best]


def test_another_model_has_the_same_ranks_and_the_memory_of_its_shape(group):
    shape = choose.LARGE["7B"]
    ratios = {"": (1.0, 2.0, 3.0)}
    by_label = {c.summary.row.label: c for c in choose.choices(group, None, None, shape, ratios)}
    one_rank = shape.layers * sum(i + o for i, o in shape.projections.values())
    assert by_label["lora"].params == pytest.approx(8 * one_rank) and by_label["frozen"].params == 0
    spec = by_label["lora"].summary.row.done[0].spec
    even = Adapter({(layer, name): (8, 0) for layer in range(shape.layers) for name in shape.projections})
    added = 16 * 8 * one_rank + kept_bytes(shape, even, spec.max_length, spec.batch_size, 2)
    frozen = static_bytes(shape, Adapter({}), 2)
    assert by_label["lora"].memory == pytest.approx(frozen + 2 * added)
    assert by_label["lora"].memory_range == pytest.approx((frozen + added, frozen + 3 * added))


def test_the_command_reads_a_folder_and_refuses_what_is_no_model(group, tmp_path):
    for record in group.records:
        Store(tmp_path / "records").save(record)
    llama = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, vocab_size=100)
    (tmp_path / "config.json").write_text(json.dumps(llama))

    def command(*arguments):
        return CliRunner().invoke(app, ["choose", "--records", str(tmp_path / "records"), *arguments])

    told = command("--model", str(tmp_path), "--max-memory", "8GB", "--max-params", "1k")
    assert told.exit_code == 0 and "Take frozen" in told.stdout and "parameters above the limit" in told.stdout
    (tmp_path / "config.json").write_text(json.dumps({"n_embd": 64}))
    for arguments, message in [
        (["--model", str(tmp_path)], "no configuration of a Llama-like model"),
        (["--model", "nope"], "unknown model"),
        (["--max-params", "many"], "expected a number above 0 such as 10M"),
    ]:
        refused = command(*arguments)
        assert refused.exit_code == 2 and message in refused.output
