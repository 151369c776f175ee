"""Every type of PEFT does what is said of it, and those that are contestants here too do the same."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from accelerate.utils import set_seed
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from baselines.generic.config import UNTRAINABLE
from baselines.generic.tuner import SIZE, replaced, tuner
from benchmarks.jobs.train import train
from benchmarks.models.load import TINY, load
from benchmarks.plan.parse import PEFT, parse_methods

STEPS = 6
LORA = "peft:type=LORA"
RATES = {"PVERA": 0.3, "UNILORA": 0.3, "ADAPTION_PROMPT": 0.3, "OSF": 1e-3, "LN_TUNING": 0.1}
SETTINGS = {  # that fit a hidden width of 32
    "C3A": "block_size=8", "VBLORA": "vector_length=8:num_vectors=16", "PSOFT": "r=4", "OSF": "effective_rank=4",
    "ROAD": "group_size=8", "OFT": "oft_block_size=8", "MISS": "r=4", "RANDLORA": "r=4", "ADAMSS": "r=8",
    "FOURIERFT": "n_frequency=50", "WAVEFT": "n_frequency=50", "VERA": "r=8", "PVERA": "r=8", "SHIRA": "r=4",
    "TRAINABLE_TOKENS": "token_indices=1+2+3", "ADAPTION_PROMPT": "adapter_len=4:adapter_layers=2",
}  # fmt: skip
QUICK = ("LORA", "FOURIERFT", "LILY", "IA3")  # one of each class
KINDS = sorted(str(k.value) for k in PEFT_TYPE_TO_CONFIG_MAPPING if str(k.value) not in UNTRAINABLE)


def build(text):
    return parse_methods(text)[0]


def losses(method, model, probe, batch, rate=1e-2):
    set_seed(0)
    attached = method.attach(model, probe, STEPS)
    return train(
        attached, method, [([batch], 60)] * STEPS, total_steps=STEPS, learning_rate=rate, warmup_fraction=0.0,
        weight_decay=0.0, seed=0,
    )[0]  # fmt: skip


@pytest.mark.parametrize(
    ("own", "generic"),
    [
        ("lora", "peft:type=LORA:r=32:lora_alpha=64"),
        ("dora", "peft:type=LORA:r=32:lora_alpha=64:use_dora=true"),
        ("rslora", "peft:type=LORA:r=32:lora_alpha=16:use_rslora=true"),
        ("pissa:r=4", "peft:type=LORA:r=4:lora_alpha=32:init_lora_weights=pissa"),
    ],
)
def test_the_generic_tuner_trains_bit_equal_to_the_contestant(own, generic, batch, probe, tiny):
    ours = losses(build(own), tiny, probe, batch)
    assert losses(build(generic), load(TINY, "float32", "cpu")[0], probe, batch) == ours


@pytest.mark.parametrize("kind", [k if k in QUICK else pytest.param(k, marks=pytest.mark.slow) for k in KINDS])
def test_a_type_starts_where_it_says_trains_its_adapter_alone_and_learns(kind, batch, probe, tiny):
    method = build(":".join(filter(None, [f"peft:type={kind}", SETTINGS.get(kind)])))
    with torch.no_grad():
        base = tiny(**{k: v for k, v in batch.items() if k != "labels"}).logits
    method.check(tiny, ["a"], STEPS)
    set_seed(0)
    model = method.attach(tiny, probe, STEPS).eval()
    with torch.no_grad():
        start = model(**{k: v for k, v in batch.items() if k != "labels"}).logits
    assert torch.allclose(start, base, atol=1e-5) == method.starts_at_base
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    curve = train(
        model, method, [([batch], 60)] * STEPS, total_steps=STEPS, learning_rate=RATES.get(kind, 1e-2),
        warmup_fraction=0.0, weight_decay=0.0, seed=0,
    )[0]  # fmt: skip
    assert min(curve[1:]) < curve[0]
    assert all(torch.equal(p, frozen[n]) for n, p in model.named_parameters() if n in frozen)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("peft:type=RANDLORE", "RANDLORA"),
        ("peft:type=BONE", "MISS"),
        ("peft:type=PROMPT_TUNING:num_virtual_tokens=4", "padding on the left"),
        ("peft:type=POLY", "task_ids"),
        ("peft:type=RANDLORA:rr=3", "unknown hyperparameter of peft:RANDLORA 'rr'"),
        ("peft:type=LORA:modules_to_save=lm_head", "own weights"),
        ("peft:type=LORA:init_lora_weights=eva", "would train as LoRA"),
        ("peft:type=LORA:init_lora_weights=lora_ga", "would train as LoRA"),
        ("peft:type=LORA:bias=all", "own biases"),
        ("peft:r=3", "one of"),
        ("peft:type=LN_TUNING:targets=suite", "must be own"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_name(text, says):
    with pytest.raises(ValueError, match=says):
        build(text)


def test_what_does_not_divide_is_refused_while_planning(tiny):
    with pytest.raises(ValueError, match="cannot put it on this model"):
        build("peft:type=C3A:block_size=7").check(tiny, ["a"], 10)


def test_the_set_of_ten_can_be_made():
    assert len({m.name for m in parse_methods("@peft")}) == len(PEFT) == 10


SHAPES = {f"model.layers.{i}.self_attn.{p}": (32, 32) for i in range(4) for p in ("q_proj", "v_proj")}


@pytest.mark.parametrize("text", ["LORA", "RANDLORA:r=8", "SHIRA", "LILY:r=4", "OFT:oft_block_size=8"])
def test_a_size_is_found_by_measuring_whichever_way_the_field_turns(text):
    method = dataclasses.replace(build(f"peft:type={text}"), target_modules=("q_proj", "v_proj"))
    made = method.matched(4 * 2 * 2 * 6 * 32, SHAPES)
    size = made.count(SHAPES)
    field = SIZE[method.kind]
    wanted = 4 * 2 * 2 * 6 * 32
    for value in (made.settings[field] - 1, made.settings[field] + 1):
        try:
            other = replaced(made, field, value).count(SHAPES)
        except ValueError:
            continue
        assert abs(size - wanted) <= abs(other - wanted)


def test_lora_meets_the_size_and_what_has_no_size_stays_as_it_is():
    lora, ia3 = (dataclasses.replace(m, target_modules=tuple(SHAPES)) for m in parse_methods(f"{LORA},peft:type=IA3"))
    assert lora.matched(8 * 64 * 5, SHAPES).settings["r"] == 5
    assert ia3.matched(8 * 64 * 5, SHAPES) == ia3 and ia3.keeps_its_size


def test_a_grid_is_of_decades_around_the_rate_of_the_run():
    assert build(LORA).grid((1e-4, 1e-3), 0.3) == [0.03, 0.3, 3.0]


@pytest.mark.parametrize("settings", [{"kasa_config": {}}, {"monteclora_config": {}}])
def test_losses_that_peft_leaves_to_its_users_are_added(settings, tiny, probe, batch):
    method = tuner("LORA")(r=4, **settings)
    model = method.attach(tiny, probe, STEPS).train()
    model(input_ids=batch["input_ids"])
    terms = [t for t in (method.penalty(model), method.regularizer(model)) if t is not None]
    assert len(terms) == 1 and terms[0].requires_grad and float(terms[0].detach()) != 0


def test_adalora_is_driven_with_the_steps_of_the_run(tiny, probe, batch):
    method = tuner("ADALORA")(init_r=6, target_r=4, total_step=1000, tinit=200, tfinal=300)
    config = method.configuration(10, None)
    assert (config.total_step, config.tinit, config.tfinal) == (10, 2, 3)
    model = method.attach(tiny, probe, STEPS)
    assert float(method.regularizer(model)) > 0
