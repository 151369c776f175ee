"""Allocation: the worked numbers of the released rule, exact budgets, and properties over drawn scores."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoe.allocation import (
    Budget,
    BudgetError,
    allocate,
    block_kind,
    block_params,
    grouped,
    load_flat,
    released_votes,
    save_flat,
    votes,
)
from smoe.rules.proportional import Shares, proportional_within

ATTENTION = [f"self_attn.{p}_proj" for p in "qkvo"]
TYPES = ATTENTION + [f"mlp.{p}_proj" for p in ("gate", "up", "down")]


def drawn(layers: int, tasks: int = 8, seed: int = 0, types=TYPES) -> dict[str, dict[str, float]]:
    rng = random.Random(seed)
    return {
        f"task{k}": {f"model.layers.{i}.{t}": rng.random() for i in range(layers) for t in types} for k in range(tasks)
    }


@pytest.mark.parametrize(
    ("layers", "grouping", "experts"),
    [
        (36, "attention", 688),
        (36, "attention-mlp", 1208),
        (36, "type", 1176),
        (36, "global", 1208),
        (28, "attention", 536),
        (28, "attention-mlp", 936),
        (28, "type", 952),
        (28, "global", 936),
    ],
)
def test_released_rule_gives_the_worked_numbers_and_votes_meet_them(layers, grouping, experts):
    scores = drawn(layers)
    released = released_votes(scores, p=60, grouping=grouping)
    assert sum(released.values()) == experts
    assert allocate(scores, budget=Budget(total_experts=experts), grouping=grouping) == released


def test_released_rule_lets_86_of_144_attention_blocks_pass_per_task():
    assert sum(released_votes(drawn(36, tasks=1), grouping="attention").values()) == 86


def test_votes_count_the_tasks_that_rank_a_block_high():
    scores = {"a": {"x": 3.0, "y": 2.0, "z": 1.0}, "b": {"x": 1.0, "y": 3.0, "z": 2.0}}
    assert votes(scores, 1) == {"x": 1, "y": 1, "z": 0}
    assert votes(scores, 2) == {"x": 1, "y": 2, "z": 1}


def test_votes_by_group_rank_attention_and_mlp_apart():
    result = votes(drawn(4), {"attention": 2, "mlp": 3})
    assert sum(v for b, v in result.items() if "self_attn" in b) == 16
    assert sum(v for b, v in result.items() if "mlp" in b) == 24


def test_equal_scores_are_broken_by_name():
    scores = {"t": dict.fromkeys(["m.c", "m.a", "m.b"], 1.0)}
    assert votes(scores, 2) == {"m.c": 0, "m.a": 1, "m.b": 1}
    assert allocate(scores, budget=Budget(total_experts=1)) == {"m.c": 0, "m.a": 1, "m.b": 0}
    proportional = allocate(scores, budget=Budget(total_experts=4), rule="proportional")
    assert proportional == {"m.c": 1, "m.a": 2, "m.b": 1}


def test_proportional_shares_by_largest_remainder():
    scores = {"a": {"x": 6.0, "y": 3.0, "z": 1.0}, "b": {"x": 600.0, "y": 300.0, "z": 100.0}}
    assert allocate(scores, budget=Budget(total_experts=10), rule="proportional") == {"x": 6, "y": 3, "z": 1}
    # Quotas 3.6, 1.8, 0.6: the two largest remainders are y's 0.8 and, by name, x's 0.6.
    assert allocate(scores, budget=Budget(total_experts=6), rule="proportional") == {"x": 4, "y": 2, "z": 0}


def test_proportional_gives_every_task_the_same_say():
    scores = {"loud": {"x": 1e6, "y": 0.0}, "quiet": {"x": 0.0, "y": 1e-6}}
    assert allocate(scores, budget=Budget(total_experts=8), rule="proportional") == {"x": 4, "y": 4}


def test_blocks_outside_the_grouping_get_none():
    scores = drawn(4)
    for grouping, marker in (("attention", "self_attn"), ("mlp", "mlp")):
        for rule in ("votes", "proportional"):
            result = allocate(scores, budget=Budget(mean_experts=2), grouping=grouping, rule=rule)
            assert result.keys() == scores["task0"].keys()
            assert all(experts == 0 for block, experts in result.items() if marker not in block)
            assert sum(result.values()) == 2 * sum(marker in block for block in result)


def test_groups_are_ranked_apart():
    scores = {"t": {f"l.{i}.attn.q": 100.0 + i for i in range(4)} | {f"l.{i}.mlp.up": 1.0 + i for i in range(4)}}
    apart = allocate(scores, budget=Budget(total_experts=4), grouping="attention-mlp")
    assert [b for b, e in apart.items() if e] == ["l.2.attn.q", "l.3.attn.q", "l.2.mlp.up", "l.3.mlp.up"]
    together = allocate(scores, budget=Budget(total_experts=4), grouping="global")
    assert all("attn" in b for b, e in together.items() if e)


@pytest.mark.parametrize(
    ("block", "kind"),
    [
        ("model.layers.0.self_attn.q_proj", "attention"),
        ("gpt_neox.layers.3.attention.query_key_value", "attention"),
        ("gpt_neox.layers.3.mlp.dense_h_to_4h", "mlp"),
        ("model.decoder.layers.0.fc1", "mlp"),
    ],
)
def test_blocks_are_attention_or_mlp_by_name(block, kind):
    assert block_kind(block) == kind


def test_block_params_by_hand():
    assert block_params((10, 6), 0, r=2) == 0
    assert block_params((10, 6), 1, r=2) == 2 * 16  # exactly LoRA
    assert block_params((10, 6), 3, r=2) == 3 * 2 * 16 + 3 * 10
    assert block_params((10, 6), 3, r=2, share_A=True) == 2 * 10 + 3 * 2 * 6 + 3 * 10


SHAPES = {b: (576, 192) if "k_proj" in b or "v_proj" in b else (576, 1536) for b in drawn(6)["task0"]}


@pytest.mark.parametrize("rule", ["votes", "proportional"])
@pytest.mark.parametrize("limit", [300_000, 1_000_000, 2_345_678])
@pytest.mark.parametrize("share_A", [False, True])
def test_parameter_budget_is_met_to_within_one_expert(rule, limit, share_A):
    options = {"shapes": SHAPES, "r": 8, "share_A": share_A, "rule": rule}
    result = allocate(drawn(6), budget=Budget(trainable_params=limit), **options)
    spent = sum(block_params(SHAPES[b], e, 8, share_A) for b, e in result.items())
    one_more = max(block_params(s, 2, 8, share_A) - block_params(s, 1, 8, share_A) for s in SHAPES.values())
    assert limit - max(one_more, block_params((576, 1536), 1, 8)) < spent <= limit


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"mean_experts": 9}, "nearest possible: total 336, mean 8"),
        ({"total_experts": 337}, "nearest possible: total 336, mean 8"),
        ({"mean_experts": 1.01}, r"nearest possible: 1.000000 \(42 experts\), 1.023810 \(43 experts\)"),
        ({"trainable_params": 5}, "nearest possible: [0-9]+"),
        ({"trainable_params": 10**9}, "nearest possible: "),
    ],
)
def test_impossible_budgets_are_refused_with_the_nearest_possible(budget, message):
    with pytest.raises(BudgetError, match=message):
        allocate(drawn(6), budget=Budget(**budget), shapes=SHAPES)


@pytest.mark.parametrize(("tasks", "mean"), [(8, 0.01), (1, 1.01)])
def test_a_fraction_of_an_expert_is_refused_with_values_inside_the_bounds(tasks, mean):
    scores = drawn(6, tasks)
    with pytest.raises(BudgetError) as refused:
        allocate(scores, budget=Budget(mean_experts=mean))
    for total in re.findall(r"\((\d+) experts\)", str(refused.value)):
        assert sum(allocate(scores, budget=Budget(total_experts=int(total))).values()) == int(total)


def test_the_nearest_possible_values_are_possible():
    assert sum(allocate(drawn(6), budget=Budget(mean_experts=1.023810)).values()) == 43
    assert sum(allocate(drawn(6), budget=Budget(mean_experts=8)).values()) == 336
    for rule in ("votes", "proportional"):
        with pytest.raises(BudgetError) as refused:
            allocate(drawn(6), budget=Budget(trainable_params=5), shapes=SHAPES, rule=rule)
        nearest = Budget(trainable_params=int(str(refused.value).rsplit(" ", 1)[1]))
        assert sum(allocate(drawn(6), budget=nearest, shapes=SHAPES, rule=rule).values()) == 1
    full = sum(block_params(s, 8, 8) for s in SHAPES.values())
    assert sum(allocate(drawn(6), budget=Budget(trainable_params=full), shapes=SHAPES).values()) == 336


@pytest.mark.parametrize(
    "given_", [{}, {"mean_experts": 1, "total_experts": 3}, {"mean_experts": 0}, {"total_experts": -1}]
)
def test_a_budget_is_one_positive_number(given_):
    with pytest.raises(BudgetError):
        Budget(**given_)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({}, "no task"),
        ({"a": {}}, "no block"),
        ({"a": {"x": 1.0}, "b": {"y": 1.0}}, "task 'b' does not score the same blocks"),
        ({"a": {"x": float("nan")}}, "task 'a', block x"),
        ({"a": {"x": -1.0}}, "block x"),
    ],
)
def test_broken_scores_are_refused_by_name(scores, message):
    with pytest.raises(ValueError, match=message):
        allocate(scores, budget=Budget(total_experts=1))


def test_unknown_rule_and_grouping_list_the_known_ones():
    with pytest.raises(ValueError, match="votes, proportional"):
        allocate(drawn(2), budget=Budget(mean_experts=1), rule="auction")
    with pytest.raises(ValueError, match="attention-mlp, type"):
        allocate(drawn(2), budget=Budget(mean_experts=1), grouping="layer")
    with pytest.raises(ValueError, match="leaves none"):
        grouped(["mlp.up"], "attention")


def test_flat_json_of_the_authors_is_read_and_written(tmp_path):
    flat = {"model.layers.0.self_attn.v_proj": 8, "model.layers.0.self_attn.q_proj": 0}
    save_flat(tmp_path / "experts.json", flat)
    assert json.loads((tmp_path / "experts.json").read_text()) == flat
    assert load_flat(tmp_path / "experts.json") == flat
    (tmp_path / "bad.json").write_text('{"x": 1.5}')
    with pytest.raises(ValueError, match="x: experts must be a whole number"):
        load_flat(tmp_path / "bad.json")


def times_a_sort(scores, run):
    """How many times as long `run` takes as sorting every task's blocks by score: the least of five, side by side."""

    def seconds(work):
        start = time.process_time()
        work()
        return time.process_time() - start

    def sort():
        for by_block in scores.values():
            sorted(by_block, key=by_block.__getitem__)

    return min(seconds(run) / max(seconds(sort), 1e-9) for _ in range(5))


@pytest.mark.no_cover  # counting lines would slow the one and not the other
@pytest.mark.parametrize("rule", ["votes", "proportional"])
def test_allocation_takes_no_more_than_a_few_sorts_of_the_scores(rule):
    small, large = drawn(36), drawn(10_000, tasks=100, types=["self_attn.q_proj"])
    for scores, most in ((small, 30), (large, 10)):
        assert times_a_sort(scores, lambda s=scores: allocate(s, budget=Budget(mean_experts=4), rule=rule)) < most


@pytest.mark.no_cover
@pytest.mark.parametrize(("layers", "tasks", "most"), [(36, 8, 100), (1429, 100, 15)])
@pytest.mark.parametrize(("rule", "r", "mean"), [("votes", 8, 4), ("proportional", 8, 4), ("proportional", 1, 40)])
def test_a_parameter_budget_is_allocated_as_fast(layers, tasks, most, rule, r, mean):
    scores = drawn(layers, tasks)
    shapes = {b: (576, 1536 if "mlp" in b else 576) for b in scores["task0"]}
    budget = Budget(trainable_params=sum(block_params(s, mean, r) for s in shapes.values()))
    assert times_a_sort(scores, lambda: allocate(scores, budget=budget, rule=rule, shapes=shapes, r=r)) < most


def test_allocation_needs_no_torch():
    code = (
        "import sys, importlib.util as u, types; p = types.ModuleType('smoe'); p.__path__ = ['smoe']\n"
        "sys.modules['smoe'] = p; import smoe.allocation; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


names = st.lists(st.sampled_from([f"l.{i}.{k}.p" for i in range(9) for k in ("attn", "mlp")]), min_size=2, unique=True)
values = st.floats(0, 1e6) | st.sampled_from([0.0, 1.0, 2.0])


@st.composite
def problems(draw):
    blocks = draw(names)
    tasks = draw(st.integers(1, 4))
    scores = {f"t{k}": {b: draw(values) for b in blocks} for k in range(tasks)}
    low = draw(st.integers(0, 2))
    high = draw(st.integers(max(low, 1), 5) | st.none())
    rule = draw(st.sampled_from(["votes", "proportional"]))
    cap = max(tasks, low) if high is None else min(high, max(tasks, low))
    most = cap if rule == "votes" else (high if high is not None else 7)
    total = draw(st.integers(max(low * len(blocks), 1), max(most * len(blocks), 1)))
    grouping = draw(st.sampled_from(["global", "attention-mlp", "type"]))
    return scores, total, {"rule": rule, "grouping": grouping, "min_experts": low, "max_experts": high}


@settings(max_examples=300, deadline=None)
@given(problems())
def test_budget_is_met_exactly_within_bounds(problem):
    scores, total, options = problem
    result = allocate(scores, budget=Budget(total_experts=total), **options)
    assert sum(result.values()) == total
    assert list(result) == list(scores["t0"])
    high = options["max_experts"]
    assert all(options["min_experts"] <= e and (high is None or e <= high) for e in result.values())
    if options["rule"] == "votes":
        assert max(result.values()) <= max(len(scores), options["min_experts"])


@settings(max_examples=300, deadline=None)
@given(problems(), st.data())
def test_a_higher_score_never_loses_an_expert(problem, data):
    scores, total, options = problem
    block = data.draw(st.sampled_from(list(scores["t0"])))
    task = data.draw(st.sampled_from(list(scores)))
    before = allocate(scores, budget=Budget(total_experts=total), **options)
    raised = {t: dict(by_block) for t, by_block in scores.items()}
    raised[task][block] = raised[task][block] * 2 + data.draw(st.floats(0, 1e6))
    after = allocate(raised, budget=Budget(total_experts=total), **options)
    assert after[block] >= before[block]


@settings(max_examples=100, deadline=None)
@given(problems())
def test_one_more_vote_is_added_to_the_old_ones(problem):
    scores, total, options = problem
    options["rule"] = "votes"
    try:
        less = allocate(scores, budget=Budget(total_experts=total), **options)
        more = allocate(scores, budget=Budget(total_experts=total + 1), **options)
    except BudgetError:
        return
    assert all(more[b] >= less[b] for b in less)


@settings(max_examples=100, deadline=None)
@given(problems())
def test_the_order_of_blocks_and_tasks_does_not_matter(problem):
    scores, total, options = problem
    turned = {t: dict(reversed(list(scores[t].items()))) for t in reversed(list(scores))}
    first = allocate(scores, budget=Budget(total_experts=total), **options)
    assert allocate(turned, budget=Budget(total_experts=total), **options) == first


@st.composite
def priced_shares(draw):
    blocks = [f"b{i}" for i in range(draw(st.integers(1, 8)))]
    weights = {b: draw(st.floats(1e-6, 1) | st.sampled_from([0.25, 1.0])) for b in blocks}
    whole = sum(weights.values())
    prices = {b: draw(st.integers(1, 5) | st.integers(50, 500)) for b in blocks}
    low = draw(st.integers(0, 2))
    cap = draw(st.integers(low + 1, 6) | st.none())
    least = sum(low * price for price in prices.values())
    limit = draw(st.integers(least, least + 3000))
    return {b: w / whole for b, w in weights.items()}, prices, limit, low, cap


@settings(max_examples=300, deadline=None)
@given(priced_shares())
def test_what_proportional_leaves_of_a_parameter_budget_is_less_than_the_next_expert(problem):
    weights, prices, limit, low, cap = problem
    given_ = proportional_within(weights, limit, low, cap, lambda b, e: e * prices[b])
    left = limit - sum(given_[b] * prices[b] for b in prices)
    total = sum(given_.values())
    shares = Shares(weights, low, cap)
    quota = dict(zip(shares.blocks, shares.quotas(total), strict=True))
    assert left >= 0 and all(e >= low and (cap is None or e <= cap) for e in given_.values())
    assert all(given_[b] < quota[b] + 1 + 1e-6 for b in given_), "a cheap block has more than its share rounded up"
    open_blocks = [b for b in given_ if cap is None or given_[b] < cap]
    if open_blocks:
        quota = dict(zip(shares.blocks, shares.quotas(total + 1), strict=True))
        furthest = max(quota[b] - given_[b] for b in open_blocks)
        assert left < max(prices[b] for b in open_blocks if quota[b] - given_[b] > furthest - 1e-6)


def test_what_is_left_of_a_parameter_budget_does_not_go_to_cheap_blocks():
    weights, prices = {"dear": 0.5, "cheap.a": 0.25, "cheap.b": 0.25}, {"dear": 100, "cheap.a": 1, "cheap.b": 1}
    given_ = proportional_within(weights, 290, 0, None, lambda b, e: e * prices[b])
    assert given_ == {"dear": 2, "cheap.a": 1, "cheap.b": 1}
