"""What serving costs, from made-up records whose numbers are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from synthetic_records import make_record
from typer.testing import CliRunner

from reports.__main__ import app
from reports.analysis.costs import arithmetic, serving
from results.spec import SERVING
from results.store import Store

SHAPE = dict(layers=2, width=64, mlp=176, heads=2, kv_heads=2, head=32, vocabulary=258)


def form(speed, peak):
    """Three rounds at batch 1 and 32, decoding at so many tokens a second in the middle one."""
    return {
        batch: {"prefill": [9.0, 10.0, 11.0], "decode": [speed * 0.9, speed, speed * 1.2], "peak_bytes": peak}
        for batch in ("1", "32")
    }


def made(method, mergeable, attached, merged=None):
    """A finished record of the serving suite whose base writes 100 tokens a second and takes 10 MB."""
    template = make_record("lora", layers=1)
    spec = replace(
        template.spec, suite="serving", protocol=SERVING, source="synthetic", method=method,
        hyperparameters={"r": 8}, model="random:llama", evaluation_limit=3,
    )  # fmt: skip
    forms = {"base": form(100.0, 10_000_000), "attached": form(attached, 12_000_000)}
    if merged is not None:
        forms["merged"] = form(merged, 10_000_000)
    told = {
        "prompt_tokens": 64, "answer_tokens": 16, "mergeable": mergeable, "why_not": None,
        "kept_parameters": 0 if mergeable else 1234, "weight_bytes": {}, "forms": forms,
    }  # fmt: skip
    size = arithmetic.uniform(arithmetic.Shape(**SHAPE), 8).params(arithmetic.Shape(**SHAPE))
    counts = replace(template.parameters, trainable=size)
    return replace(template, spec=spec, scores={}, facts={"shape": SHAPE, "serving": told}, parameters=counts)


@pytest.fixture
def records():
    return [made("lora-smoe", False, 50.0), made("lora", True, 80.0, merged=99.0), made("frozen", None, 100.0)]


def test_speeds_are_paired_by_round_and_memory_is_above_the_base(records):
    rows = serving.served(records)
    (routed,) = [r for r in rows if (r.method, r.form, r.batch) == ("lora-smoe", "attached", 32)]
    assert (routed.decode_of_base.value, routed.decode_of_base.low) == pytest.approx((0.5, 0.5))
    assert (routed.decode.value, routed.decode.low, routed.decode.high) == pytest.approx((50, 45, 60))
    assert routed.above_base_bytes == 2_000_000 and routed.kept_parameters == 1234 and routed.is_served
    assert routed.operations_of_base > 1 and 1 < routed.bytes_of_base < 4
    served = {r.method: r.form for r in rows if r.is_served}
    assert served == {"lora": "merged", "lora-smoe": "attached", "frozen": "attached"}


def test_the_answer_says_what_a_router_costs(records):
    routed, merged = serving.answers(serving.served(records))
    assert routed == (
        "random:llama: a router cannot be merged; lora-smoe writes at 50%, 50% of the base's speed at batch 1, 32, "
        "with +2 MB at batch 32."
    )
    assert "merged into the weights, lora writes at 99%, 99%" in merged and "frozen" not in routed + merged


def test_the_command_writes_the_page_the_numbers_and_a_figure(records, tmp_path):
    store = Store(tmp_path / "records")
    for record in records:
        store.save(record)
    arguments = ["serving", "--records", str(store.folder), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and "a router cannot be merged" in result.output
    page = (tmp_path / "out" / "serving.md").read_text()
    assert "| random:llama | lora-smoe | no | 1,234 | 50% (50% to 50%) | 50% (50% to 50%) | +2.0 |" in page
    assert (tmp_path / "out" / "serving.png").stat().st_size > 1000
    assert CliRunner().invoke(app, [*arguments, "--check"]).exit_code == 0
    (tmp_path / "out" / "serving.csv").write_text("model\n")
    stale = CliRunner().invoke(app, [*arguments, "--check"])
    assert stale.exit_code == 1 and "serving.csv: differs" in stale.stdout


def test_a_name_in_brackets_is_no_markup_of_the_terminal(records, tmp_path):
    odd = replace(records[0], spec=replace(records[0].spec, model="random:[/b]"))
    assert odd.facts["serving"]["mergeable"] is False
    Store(tmp_path / "records").save(odd)
    asked = ["serving", "--records", str(tmp_path / "records"), "--out", str(tmp_path / "out"), "--no-images"]
    assert "random:[/b]: a router cannot be merged" in CliRunner().invoke(app, asked, catch_exceptions=False).output


def test_no_record_and_records_of_two_machines_are_refused(records, tmp_path):
    empty = CliRunner().invoke(app, ["serving", "--records", str(tmp_path / "none")])
    assert empty.exit_code == 2 and "python -m benchmarks.run --suite serving" in empty.stderr
    other = replace(records[0], environment={**records[0].environment, "threads": 99})
    with pytest.raises(ValueError, match="cost records differ in threads"):
        serving.served([*records, other])
