"""The figure of router loads holds the records' numbers and draws any number of experts and tasks."""

from __future__ import annotations

import dataclasses

import pytest
from synthetic_records import PROJECTIONS, make_failed, make_record

from reports.analysis.groups import make_groups
from reports.figures.routing import routing, routing_rows


def _routed(method: str = "lora-smoe", tasks: tuple[str, ...] = ("boolq", "piqa"), layers: int = 3):
    """A record whose blocks have 2 to 7 experts; the first layer's first projection has none."""
    record = make_record(method, layers=layers)
    blocks = [f"model.layers.{i}.{p}" for i in range(layers) for p in PROJECTIONS][1:]
    loads = {b: [1 / (2 + i % 6)] * (2 + i % 6) for i, b in enumerate(blocks)}
    loads[blocks[0]] = [0.9, 0.1]
    router = {t: {b: {"load": load, "entropy": 0.5, "dead": 0} for b, load in loads.items()} for t in tasks}
    return dataclasses.replace(record, facts={**record.facts, "router": router})


def test_rows_hold_every_expert_of_every_block_and_task():
    record = _routed()
    (group,) = make_groups([record])
    rows = routing_rows(group.rows[0])
    routed = [row for row in rows if row["load"]]
    assert len(routed) == sum(map(len, record.facts["router"].values()))
    for row in routed:
        load = record.facts["router"][row["task"]][row["block"]]["load"]
        assert [float(x) for x in row["load"].split()] == pytest.approx(load, rel=1e-3)
    assert routed[0]["load"] == "0.9 0.1" and routed[0]["dead"] == 0


def test_layers_without_a_router_stay_on_the_axis_and_dead_experts_leave_the_scale_possible():
    record = _routed(layers=4)
    router = {
        task: {b: {"load": [1.0] + [0.0] * 7, "entropy": 0.0, "dead": 7} for b in blocks if ".layers.1." in b}
        for task, blocks in record.facts["router"].items()
    }
    record = dataclasses.replace(record, facts={**record.facts, "router": router})
    (group,) = make_groups([record])
    assert {row["layer"] for row in routing_rows(group.rows[0])} == {0, 1, 2, 3}
    ((_, draw),) = routing(group).values()
    figure = draw()
    assert [ax.get_ylabel() for ax in figure.axes[:7]] == ["q", "k", "v", "o", "gate", "up", "down"]
    assert [text.get_text() for text in figure.axes[6].get_xticklabels()] == ["0", "1", "2", "3"]
    image = figure.axes[0].images[0]
    shown = ~image.get_array().mask[0]
    assert image.get_clim() == (-2.0, 2.0) and not shown[:120].any() and shown[120:228].all() and not shown[228:].any()


def test_panels_are_in_the_order_of_the_model_and_an_outlier_does_not_set_the_scale():
    (group,) = make_groups([_routed(layers=6)])
    ((stem, (_, draw)),) = routing(group).items()
    figure = draw()
    assert stem == "routing-lora-smoe"
    assert [ax.get_ylabel() for ax in figure.axes[:7]] == ["q", "k", "v", "o", "gate", "up", "down"]
    image = figure.axes[1].images[0]
    # One block in 41 is uneven: half of it, 0.1 of two experts, lies beyond the ends of the colours.
    assert float(image.get_array().min()) == pytest.approx(-2.322, abs=1e-3)  # log2 of 0.1 * 2
    assert image.get_clim() == pytest.approx((-0.848, 0.848), abs=1e-3)  # log2 of 0.9 * 2
    figure.draw_without_rendering()
    bar = figure.axes[-1]
    assert "beyond the ends" in bar.get_ylabel()
    assert [text.get_text() for text in bar.get_yticklabels()] == ["0.56", "0.75", "1.00", "1.34", "1.80"]
    assert min(text.get_fontsize() for ax in figure.axes for text in ax.get_yticklabels()) >= 7.5


def test_loads_that_hardly_differ_stay_pale():
    record = _routed()
    even = {t: {b: {"load": [0.501, 0.499]} for b in blocks} for t, blocks in record.facts["router"].items()}
    (group,) = make_groups([dataclasses.replace(record, facts={"router": even})])
    ((_, draw),) = routing(group).values()
    assert draw().axes[0].images[0].get_clim() == (-0.1, 0.1)


def test_methods_without_a_router_have_no_figure():
    odd = dataclasses.replace(make_record("molora", layers=1), facts={"router": None})
    single = dataclasses.replace(
        make_record("mola", layers=1), facts={"router": {"boolq": {}}, "experts": {"a.0.q": 1}}
    )
    (group,) = make_groups([make_record("lora", layers=1), odd, single, make_failed("dora")])
    assert routing(group) == {}


def test_one_layer_and_one_task_can_be_drawn():
    (group,) = make_groups([_routed("molora", ("boolq",), 1)])
    for _, draw in routing(group).values():
        draw().draw_without_rendering()
