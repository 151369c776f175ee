"""Loads of routers are those of the records, means over tasks and never over blocks."""

from __future__ import annotations

import dataclasses

import pytest
from synthetic_records import PROJECTIONS, make_failed, make_record

from reports.analysis.groups import make_groups
from reports.figures.routing import router_loads


def _routed(method: str = "lora-smoe", tasks: tuple[str, ...] = ("boolq", "piqa"), layers: int = 3):
    """A record whose blocks have 2 to 7 experts; the first layer's first projection has none."""
    record = make_record(method, layers=layers)
    blocks = [f"model.layers.{i}.{p}" for i in range(layers) for p in PROJECTIONS][1:]
    loads = {b: [1 / (2 + i % 6)] * (2 + i % 6) for i, b in enumerate(blocks)}
    loads[blocks[0]] = [0.9, 0.1]
    router = {t: {b: {"load": load, "entropy": 0.5, "dead": 0} for b, load in loads.items()} for t in tasks}
    return dataclasses.replace(record, facts={**record.facts, "router": router})


def test_a_router_s_busiest_expert_is_a_multiple_of_an_even_share():
    (group,) = make_groups([_routed()])
    rows = router_loads(group.rows[0])
    (without,) = [row for row in rows if not row["experts"]]  # stays, so that a map keeps its order
    assert without is rows[0] and without["busiest"] is None
    uneven, *others = rows[1:]
    assert uneven["busiest"] == pytest.approx(1.8) and uneven["experts"] == 2  # 0.9 of two experts
    assert all(row["busiest"] == pytest.approx(1.0) for row in others)
    assert {row["experts"] for row in others} == {2, 3, 4, 5, 6, 7} and len(rows) == 3 * len(PROJECTIONS)
    assert [row["layer"] for row in rows] == sorted(row["layer"] for row in rows)


def test_loads_that_do_not_sum_to_one_and_dead_experts_are_read_right():
    record = _routed(layers=1)
    blocks = list(record.facts["router"]["boolq"])
    router = {
        "boolq": {b: {"load": [2.0] + [0.0] * 7, "entropy": 0.0, "dead": 7} for b in blocks},
        "piqa": {b: {"load": [0.25] * 8, "entropy": 1.0, "dead": 0} for b in blocks},
    }
    (group,) = make_groups([dataclasses.replace(record, facts={**record.facts, "router": router})])
    for row in router_loads(group.rows[0])[1:]:
        assert (row["busiest"], row["entropy"], row["dead"]) == (pytest.approx(4.5), 0.5, 3.5)


def test_methods_without_a_router_have_no_loads():
    odd = dataclasses.replace(make_record("molora", layers=1), facts={"router": None})
    single = dataclasses.replace(
        make_record("mola", layers=1), facts={"router": {"boolq": {}}, "experts": {"a.0.q": 1}}
    )
    (group,) = make_groups([make_record("lora", layers=1), odd, single, make_failed("dora")])
    assert [router_loads(row) for row in group.rows] == [[]] * 4
