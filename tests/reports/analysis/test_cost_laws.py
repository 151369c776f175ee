"""Laws fitted to made-up records whose law is known, and what the page says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from synthetic_records import make_record
from typer.testing import CliRunner

from reports.__main__ import app
from reports.analysis.costs import arithmetic
from reports.analysis.costs import cost_laws as cost
from reports.analysis.costs.choose import measured_over_counted
from results.record import Cost
from results.spec import COST
from results.store import Store


def shape(width):
    heads = width // 32
    return dict(layers=4, width=width, mlp=11 * heads * 8, heads=heads, kv_heads=heads, head=32, vocabulary=258)


def made(method="lora", seconds=1.0, peak=0, seed=0, length=64, r=32, width=256):
    """A finished cost record in which training took so many seconds and bytes above those of the loaded model."""
    template = make_record("lora", layers=1)
    spec = replace(
        template.spec, suite="cost", protocol=COST, source="synthetic", method=method, hyperparameters={"r": r},
        max_length=length, seed=seed, model=f"random:llama:width={width}",
    )  # fmt: skip

    def phase(wall, extra):
        bytes_now = 10**9 + extra
        return Cost(
            wall_seconds=wall, tokens=64 * length, peak_allocated_bytes=None, peak_reserved_bytes=None,
            peak_resident_bytes=bytes_now,
        )  # fmt: skip

    costs = {
        "load": phase(1.0, 0),
        "allocate": phase(1e-6, 0),
        "train": phase(seconds, peak),
        "evaluate": phase(0.1, 0),
    }
    size = arithmetic.Shape(**shape(width))
    counts = replace(template.parameters, trainable=arithmetic.uniform(size, r).params(size))
    return replace(template, spec=spec, scores={}, costs=costs, facts={"shape": shape(width)}, parameters=counts)


@pytest.fixture
def records():
    """Seconds as width^1.7 and length^1.2, memory as a line in the length; two repeats of every point."""
    points = [dict(width=w, seconds=w**1.7 / 256**1.7) for w in (128, 256, 512)]
    points += [dict(length=n, seconds=n**1.2 / 64**1.2, peak=5000 * n) for n in (32, 128, 256)]
    points[1] |= dict(peak=5000 * 64)
    return [made(seed=seed, **point) for point in points for seed in (0, 1)]


def law(found, phase, axis):
    (only,) = [one for one in found if (one.phase, one.axis) == (phase, axis)]
    return only


def test_a_law_is_found_again(records):
    found = cost.laws(records)
    assert law(found, "train", "width").exponent == pytest.approx(1.7)
    length = law(found, "train", "length")
    assert length.exponent == pytest.approx(1.2) and length.stderr == pytest.approx(0, abs=1e-6)
    assert [x for x, _ in length.points] == [32, 64, 128, 256]
    assert length.slope == pytest.approx(5000) and length.intercept == pytest.approx(0, abs=1e-3)
    counted = [arithmetic.expected_bytes(made(length=n)) for n in (32, 256)]
    assert length.expected_slope == pytest.approx((counted[1] - counted[0]) / 224, rel=0.2)
    assert law(found, "evaluate", "length").expected_slope is None


def test_the_expected_exponent_is_that_of_the_counted_operations(records):
    width = law(cost.laws(records), "train", "width")
    assert 1.5 < width.expected < 2
    ratio = [arithmetic.expected(r)["train"] for r in records if r.facts["shape"]["width"] in (128, 512)]
    assert width.expected == pytest.approx(math.log(ratio[-1] / ratio[0]) / math.log(4), abs=0.1)


@pytest.mark.parametrize("block", ["model.decoder.layers.0.self_attn.out_proj", "lm_head"])
def test_experts_on_a_block_that_the_shape_lacks_leave_the_adapter_untold(block):
    record = made()
    assert arithmetic.adapter_of(replace(record, facts={**record.facts, "experts": {block: 2}})) is None


def test_an_adapter_of_another_size_than_the_hyperparameters_tell_is_not_counted(records):
    sharing = replace(records[0], parameters=replace(records[0].parameters, trainable=10))
    assert arithmetic.expected(sharing) is None and arithmetic.expected_bytes(sharing) is None


def test_an_axis_of_two_points_and_a_phase_too_short_to_time_have_no_law(records):
    found = cost.laws([r for r in records if r.facts["shape"]["width"] != 128])
    assert {one.axis for one in found} == {"length"} and {one.phase for one in found} == {"train", "evaluate"}


def test_every_published_shape_has_laws_of_its_own(records):
    def of(name, record):
        return replace(record, spec=replace(record.spec, model=f"random:{name}"))

    lengths = [r for r in records if r.facts["shape"]["width"] == 256]
    found = cost.laws([*records, *(of(name, r) for name in ("Qwen2.5-3B", "Llama-2-7B") for r in lengths)])
    trained = {(one.label, one.axis) for one in found if one.phase == "train"}
    assert trained == {("lora", "width"), ("lora", "length")} | {
        (f"lora, {name}", "length") for name in ("Qwen2.5-3B", "Llama-2-7B")
    }


def test_records_of_two_machines_are_refused_with_what_differs(records):
    other = replace(records[0], environment={**records[0].environment, "threads": 99})
    with pytest.raises(ValueError, match="cost records differ in threads"):
        cost.laws([*records, other])


def test_a_thousand_tasks_make_more_experts_than_lora_has_parameters():
    rows = {(r["model"], r["tasks"], str(r["adapter"]).startswith("lora")): r for r in cost.predictions()}
    assert rows["7B", 1000, False]["trained_params"] > 50 * rows["7B", 8, False]["trained_params"]
    assert rows["7B", 8, True]["times_lora"] == 1 and 0.99 < rows["7B", 8, False]["times_lora"] < 1.01
    assert 12.9e9 < rows["7B", 8, True]["resident_bytes"] - 16 * rows["7B", 8, True]["trained_params"] < 13.6e9


def test_the_experts_of_the_predictions_are_those_that_the_released_rule_hands_out():
    scores = {f"task{t}": {f"layers.{i}.mlp.up_proj": float(i + 1) for i in range(100)} for t in range(8)}
    allocation = pytest.importorskip("smoe.allocation", reason="needs torch")  # reports are tested without it, too
    mean = sum(allocation.released_votes(scores).values()) / 100
    assert cost.PASSING * len(scores) == pytest.approx(mean, abs=0.1)
    (row,) = [r for r in cost.predictions() if (r["model"], r["tasks"], r["scoring_share"] > 0) == ("7B", 8, True)]
    assert row["adapter"] == f"{round(mean)} experts of 8"


def test_the_command_writes_the_page_the_numbers_and_a_figure(records, tmp_path):
    store = Store(tmp_path / "records")
    for record in records:
        store.save(record)
    arguments = ["cost", "--records", str(store.folder), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    page = (tmp_path / "out" / "cost.md").read_text()
    assert "| lora | train | length | 32 to 256 | 1.20 ± 0.00 |" in page and "| 70B | 1000 |" in page
    assert (tmp_path / "out" / "cost.csv").read_text().startswith("method,phase,axis,value,seconds")
    drawn = [f"train-{what}.{kind}" for what in ("seconds", "memory") for kind in ("png",)]
    assert all((tmp_path / "out" / name).stat().st_size > 1000 for name in drawn)
    assert CliRunner().invoke(app, [*arguments, "--check"]).exit_code == 0
    (tmp_path / "out" / "cost.csv").write_text("method\n")
    stale = CliRunner().invoke(app, [*arguments, "--check"])
    assert stale.exit_code == 1 and "cost.csv: differs" in stale.stdout
    empty = CliRunner().invoke(app, ["cost", "--records", str(tmp_path / "none")])
    assert empty.exit_code == 2 and "none: no finished cost record; python -m benchmarks.studies.cost" in empty.stderr


def test_measured_over_counted_comes_from_the_cost_records_of_each_method():
    ratios = measured_over_counted([made(peak=10**8), made(peak=3 * 10**8, seed=1)])
    assert set(ratios) == {"", "lora"} and ratios["lora"][2] == pytest.approx(3 * ratios["lora"][0])
