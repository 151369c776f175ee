"""Requests become specs, and what is wrong with a request is said before anything runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaForCausalLM

from benchmarks import registry
from benchmarks.plan.parse import MAIN, parse_methods, parse_seeds
from benchmarks.plan.profiles import PROFILES
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from results import RunSpec


def asked(**options):
    return resolve(Request(**{"model": "tiny", "methods": "lora", "device": "cpu", **options}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"suite": "commonsens"}, "unknown suite 'commonsens'; did you mean commonsense"),
        ({"methods": "lora-smo"}, "unknown method 'lora-smo'; did you mean lora-smoe"),
        ({"methods": ""}, "unknown method ''; known: .*adalora.*molora"),
        ({"methods": "lora,,molora"}, "unknown method ''"),
        ({"profile": "ful"}, "unknown profile 'ful'; did you mean full"),
        ({"profile": "x"}, "unknown profile 'x'; known: full, medium, .*small"),
        ({"model": "smolm2-135m"}, "unknown model .*'smolm2-135m'; did you mean smollm2-135m"),
        ({"model": "./no/such/folder"}, "'./no/such/folder'; known: smollm2-135m, tiny"),
        ({"model": "absent.gguf"}, "or no such folder or file.*'absent.gguf'"),
        ({"source": "embeded"}, "unknown source 'embeded'; did you mean embedded"),
        ({"dtype": "float8"}, "unknown dtype 'float8'; did you mean .*float32"),
        ({"device": "gpu"}, "unknown device 'gpu'; .*cpu"),
        ({"task_shares": "even"}, "task_shares 'even' is not one of: equal, proportional, temperature:T"),
        ({"task_shares": "temperature:0.5"}, "task_shares 'temperature:0.5' is not .* T of 1 or more"),
        ({"adapters": "both"}, "unknown adapters 'both'; known: per-task, shared"),
        ({"limit": 0}, "limit 0 must be above 0"),
        ({"limit": -3}, "limit -3 must be above 0"),
        ({"train_documents": 0}, "train_documents 0 must be above 0"),
        ({"train_documents": -1}, "train_documents -1 must be above 0"),
        ({"train_documents": 7}, "train_documents 7 must be at least one for each of the 8 tasks"),
        ({"batch_size": 0}, "batch_size 0 must be above 0"),
        ({"batch_size": -8}, "batch_size -8 must be above 0"),
        ({"max_length": 0}, "max_length 0 must be above 0"),
        ({"probe_documents": 0}, "probe_documents 0 must be above 0"),
        ({"evaluation_batch_size": -1}, "evaluation_batch_size -1 must be above 0"),
        ({"learning_rate": 0.0}, "learning_rate 0.0 must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate nan: expected finite number"),
        ({"learning_rate": float("inf")}, "learning_rate inf: expected finite number"),
        ({"epochs": -1.0}, "epochs -1.0 must be at least 0"),
        ({"epochs": float("nan")}, "epochs nan: expected finite number"),
        ({"weight_decay": -0.1}, "weight_decay -0.1 must be at least 0"),
        ({"warmup_fraction": 1.5}, "warmup_fraction 1.5 must be at most 1"),
        ({"seeds": ""}, "seeds '': expected numbers like 0,1,2 or a range like 0-4"),
        ({"seeds": "a"}, "seeds 'a': expected numbers"),
        ({"seeds": "-1"}, "seeds '-1': expected numbers"),
        ({"seeds": "0,0"}, "seeds '0,0' must name at least one, each once"),
        ({"seeds": "4-2"}, "seeds '4-2' must name at least one"),
        ({"methods": "lora,lora"}, "methods 'lora,lora' names one twice"),
        ({"methods": "@man,lora"}, "unknown set of methods 'man'; did you mean main"),
        ({"methods": "lora:rank=8"}, "unknown hyperparameter of lora 'rank'; .*alpha, dropout, r"),
        ({"methods": "lora:r"}, "'lora:r': expected NAME:FIELD=VALUE, found 'r'"),
        ({"methods": "lora:r=eight"}, "lora:r: 'eight' is not int"),
        ({"methods": "lora:r=1.5"}, "lora:r: '1.5' is not int"),
        ({"methods": "lora:r=none"}, "lora:r: 'none' is not int"),
        ({"methods": "lora:dropout=nan"}, "lora:dropout: 'nan' is not float"),
        ({"methods": "molora:renormalise=maybe"}, "molora:renormalise: 'maybe' is not bool"),
        ({"methods": "lora:r=0"}, "lora: r 0 must be above 0"),
        ({"methods": "molora:num_experts=-2"}, "molora: num_experts -2 must be above 0"),
        ({"methods": "adalora:target_r=48"}, "adalora: target_r 48 must be below init_r 48"),
        ({"methods": "lora-smoe:mean_experts=0"}, "lora-smoe: mean_experts 0 must be above 0"),
        (
            {"methods": "lora-smoe:mean_experts=2:total_experts=840"},
            "exactly one of mean_experts, total_experts",
        ),
        ({"methods": "lora:r=16:r=8"}, "'lora:r=16:r=8': r is set twice"),
        ({"methods": "lora:rr=4"}, r"unknown hyperparameter of lora 'rr'; did you mean r\? known: alpha, dropout, r"),
        (
            {"methods": "lora-smoe:rule=vote"},
            r"unknown rule of lora-smoe 'vote'; did you mean votes\? known: greedy, layers",
        ),
        ({"batchsize": 4}, "unknown field 'batchsize'; did you mean batch_size or"),
        ({"limit": "many"}, "limit 'many': expected integer"),
    ],
)
def test_a_bad_request_names_the_value_and_what_is_allowed(options, message):
    with pytest.raises(ValueError, match=message):
        asked(**options)


def test_the_defaults_are_the_main_contestants_on_the_embedded_model():
    specs = resolve(Request(device="cpu"))
    assert [s.method for s in specs] == list(MAIN)
    assert {(s.model, s.source, s.seed, s.suite) for s in specs} == {("smollm2-135m", "embedded", 0, "commonsense")}
    assert len({s.key for s in specs}) == len(MAIN)


def test_sets_of_methods_are_named_with_at_and_what_they_share_is_one():
    assert [m.name for m in parse_methods("@main")] == list(MAIN)
    names = [m.name for m in parse_methods("@main,@controls,lora,lora:r=4")]
    assert names == [*MAIN, "lora-own", "random-experts", "inverse-experts", "lora"]
    assert {m.name for m in parse_methods("@all")} == set(registry.methods())


def test_a_run_that_names_no_rate_gives_each_method_its_own():
    rates = {s.method: s.learning_rate for s in resolve(Request(model="tiny", methods="lora,adalora,full"))}
    assert rates == {"lora": 5e-4, "adalora": 2e-3, "full": 5e-5}
    (asked_for,) = {s.learning_rate for s in resolve(Request(model="tiny", methods="lora,full", learning_rate=1e-3))}
    assert asked_for == 1e-3


def test_a_spec_holds_every_hyperparameter_and_comes_back_from_json_with_its_key():
    (spec,) = asked(methods="lora-smoe:r=4:mean_experts=2.5:target_modules=q_proj+v_proj")
    assert spec.hyperparameters["r"] == 4 and spec.hyperparameters["mean_experts"] == 2.5
    assert spec.hyperparameters["target_modules"] == ["q_proj", "v_proj"]
    assert spec.hyperparameters["alpha"] == 64 and spec.hyperparameters["rule"] == "votes"
    again = RunSpec.from_json(spec.to_json())
    assert again == spec and again.key == spec.key


def test_explicit_options_win_over_the_profile():
    profile = PROFILES["medium"]
    (spec,) = asked(profile="medium")
    assert (spec.train_documents, spec.evaluation_limit) == (profile.train_documents, profile.evaluation_limit)
    (spec,) = asked(profile="medium", train_documents=16, limit=2)
    assert (spec.train_documents, spec.evaluation_limit) == (16, 2)
    assert len(asked(profile="full")) == PROFILES["full"].seeds == 3
    assert asked(profile="full")[0].train_documents is None


def test_keys_differ_when_anything_asked_differs():
    options = [{}, {"limit": 3}, {"seeds": "1"}, {"batch_size": 4}, {"dtype": "float32"}, {"methods": "lora:r=4"}]
    assert len({asked(**o)[0].key for o in options}) == len(options)


def test_seeds_are_lists_and_ranges():
    assert parse_seeds("0,3,5-7", 1) == [0, 3, 5, 6, 7]
    assert parse_seeds(None, 3) == [0, 1, 2]


def test_a_seed_draws_its_own_documents_unless_the_draw_is_fixed():
    follows, fixed = (resolve(Request(model="tiny", methods="lora", seeds="0-2", **d)) for d in ({}, {"data_seed": 5}))
    assert [(s.seed, s.data_seed) for s in follows] == [(0, 0), (1, 1), (2, 2)]
    assert [(s.seed, s.data_seed) for s in fixed] == [(0, 5), (1, 5), (2, 5)]


def test_a_spec_says_the_version_of_its_suite_and_how_a_step_goes_through_the_model():
    def first(**options):
        return resolve(Request(**{"model": "tiny", "methods": "lora", "device": "cpu"} | options))[0]

    assert first().suite_version == registry.suites()["commonsense"].version
    assert [first(**o).micro_batch for o in ({}, {"batch_size": 1}, {"micro_batch": 8})] == [2, 1, 8]
    assert first(suite="cost", train_documents=8, limit=1).micro_batch == 8  # documents of one length need no padding
    with pytest.raises(ValueError, match="micro_batch 9 must be at most batch_size 8"):
        first(micro_batch=9)


def test_gradient_checkpointing_is_of_the_key_only_where_it_is_asked_for(monkeypatch):
    asked_for = {"model": "tiny", "methods": "lora", "device": "cpu"}
    off, on = (resolve(Request(**asked_for, gradient_checkpointing=asks))[0] for asks in (False, True))
    assert (off.gradient_checkpointing, on.gradient_checkpointing) == (False, True) and off.key != on.key
    monkeypatch.setattr(LlamaForCausalLM, "supports_gradient_checkpointing", False)
    with pytest.raises(ValueError, match="'tiny' has no gradient checkpointing: leave --gradient-checkpointing out"):
        resolve(Request(**asked_for, gradient_checkpointing=True))


@given(st.lists(st.integers(0, 999), min_size=1, unique=True))
def test_any_list_of_seeds_is_read_back(seeds):
    assert parse_seeds(",".join(map(str, seeds)), 1) == seeds


def test_hyperparameters_are_read_as_the_fields_say():
    (method,) = parse_methods("molora:num_experts=3:dropout=0.1:renormalise=False:top_k=2:balance_loss=1e-2")
    assert (method.num_experts, method.dropout, method.renormalise, method.top_k) == (3, 0.1, False, 2)
    assert method.balance_loss == 0.01 and parse_methods("molora:top_k=none")[0].top_k is None
    assert [type(m).name for m in parse_methods("lora, lora:r=4 ,frozen")] == ["lora", "lora", "frozen"]
