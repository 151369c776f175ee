"""What PEFT's own tests ask of every tuner, of a custom model and of a decoder: the same behaviour, or PEFT's error."""

from __future__ import annotations

import copy
import re

import pytest
import torch
import transformers as tf
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, prepare_model_for_kbit_training
from safetensors.torch import load_file

from smoe import SMoEConfig, experts_per_block


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = torch.nn.Linear(8, 12), torch.nn.Linear(12, 8)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(x)))


class Mlp(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(30, 8)
        self.body = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([Layer(), Layer(), Layer()])})
        self.head = torch.nn.Linear(8, 5)

    def forward(self, input_ids):
        x = self.embed(input_ids)
        for layer in self.body["layers"]:
            x = layer(x)
        return self.head(x)


def mlp():
    torch.manual_seed(0)
    return Mlp().eval()


def decoder():
    torch.manual_seed(0)
    config = tf.LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, vocab_size=30, pad_token_id=0
    )
    return tf.LlamaForCausalLM(config).eval()


# how to make it, its blocks, its head, its embedding
MODELS = {
    "mlp": (mlp, ("up", "down"), "head", "embed"),
    "decoder": (decoder, ("up_proj", "down_proj"), "lm_head", "embed_tokens"),
}
IDS = torch.arange(2, 18).reshape(2, 8)


@pytest.fixture(params=MODELS)
def kind(request):
    return MODELS[request.param]


def made(kind, config=SMoEConfig, **options):
    experts = {"num_experts": 3} if config is SMoEConfig else {}
    start = {"init_weights" if config is SMoEConfig else "init_lora_weights": False}
    return config(**{"r": 2, "target_modules": list(kind[1]), **experts, **start, **options})


def adapted(kind, **options):
    torch.manual_seed(1)
    return get_peft_model(kind[0](), made(kind, **options)).eval()


def output(model):
    with torch.no_grad():
        found = model(input_ids=IDS)
    return getattr(found, "logits", found)


def trained(model, steps=2):
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(steps):
        found = model(input_ids=IDS)
        getattr(found, "logits", found).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def error(call):
    with pytest.raises(Exception) as raised:  # noqa: PT011 - whatever PEFT raises is what is asked for
        call()
    return type(raised.value), re.sub(r"smoe|lora", "", str(raised.value), flags=re.IGNORECASE)


def test_a_saved_adapter_loads_to_the_same_output_under_any_name(kind, tmp_path):
    model = trained(adapted(kind))
    model.save_pretrained(tmp_path)
    assert load_file(tmp_path / "adapter_model.safetensors").keys() == get_peft_model_state_dict(model).keys()
    for options in ({}, {"adapter_name": "other"}, {"low_cpu_mem_usage": True}, {"is_trainable": True}):
        again = PeftModel.from_pretrained(kind[0](), tmp_path, **options).eval()
        assert torch.equal(output(again), output(model))
        assert any(p.requires_grad for p in again.parameters()) == ("is_trainable" in options)
    kept, asked = (m.peft_config["default"].to_dict() for m in (again, model))
    assert {n for n in asked if kept[n] != asked[n]} <= {"auto_mapping", "base_model_name_or_path"}


def test_an_adapter_is_loaded_beside_another_one(kind, tmp_path):
    model, other = trained(adapted(kind)), adapted(kind, num_experts=2)
    model.save_pretrained(tmp_path)
    before = output(other)
    other.load_adapter(tmp_path, "loaded")
    assert torch.equal(output(other), before)
    other.set_adapter("loaded")
    assert torch.equal(output(other), output(model))
    assert experts_per_block(other, "loaded") == experts_per_block(model) != experts_per_block(other)


def test_a_copy_is_independent(kind):
    model = adapted(kind)
    before, other = output(model), trained(copy.deepcopy(model))
    assert torch.equal(output(model), before) and not torch.equal(output(other), before)


def test_training_changes_the_adapter_alone(kind):
    model, plain = trained(adapted(kind)), kind[0]().state_dict()
    base = model.unload().state_dict()
    assert plain.keys() == base.keys() and all(torch.equal(plain[name], base[name]) for name in plain)


def test_adapters_are_added_switched_disabled_and_deleted(kind):
    plain, model = output(kind[0]()), adapted(kind)
    first = output(model)
    model.add_adapter("second", made(kind, r=3, num_experts=2, target_modules=[kind[1][0]]))
    model.add_adapter("third", made(kind, num_experts=1))
    assert torch.equal(output(model), first) and model.active_adapter == "default"
    seen = [first]
    for name in ("second", "third"):
        model.set_adapter(name)
        assert all(p.requires_grad == (f".{name}" in n) for n, p in model.named_parameters() if "smoe_" in n)
        assert not any(torch.equal(output(model), other) for other in seen)
        seen.append(output(model))
    with model.disable_adapter():
        assert torch.equal(output(model), plain)
    assert torch.equal(output(model), seen[2])
    model.base_model.disable_adapter_layers()
    assert torch.equal(output(model), plain) and not model.get_model_status().enabled
    model.base_model.enable_adapter_layers()
    assert torch.equal(output(model), seen[2]) and model.get_model_status().enabled
    model.delete_adapter("third")
    model.set_adapter("second")
    assert torch.equal(output(model), seen[1]) and sorted(model.peft_config) == ["default", "second"]
    assert experts_per_block(model, "third") == {}


def test_deleting_the_active_adapter_leaves_another_one_that_works(kind):
    model = adapted(kind)
    first = output(model)
    model.add_adapter("second", made(kind))
    model.set_adapter("second")
    model.delete_adapter("second")
    model.set_adapter("default")
    assert torch.equal(output(model), first) and not any("second" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize("call", ["set_adapter", "delete_adapter"])
def test_an_unknown_adapter_is_refused_as_for_lora(kind, call):
    models = [get_peft_model(kind[0](), made(kind, config)) for config in (SMoEConfig, LoraConfig)]
    said = [error(lambda m=m: getattr(m, call)("missing")) for m in models]
    assert said[0] == said[1] and "missing" in said[0][1]


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["missing"]},
        {"target_modules": "missing.*"},
        {"layers_to_transform": [9]},
        {"layers_to_transform": [0], "layers_pattern": "missing"},
        {"layers_pattern": "layers"},
        {"target_modules": ".*", "layers_to_transform": [0]},
        {"target_modules": ".*", "layers_to_transform": [0], "layers_pattern": "layers"},
        {"trainable_token_indices": {"missing": [1]}},
    ],
    ids=str,
)
def test_impossible_blocks_are_refused_as_for_lora(kind, options):
    said = [
        error(lambda c=config: get_peft_model(kind[0](), made(kind, c, **options)))
        for config in (SMoEConfig, LoraConfig)
    ]
    assert said[0][0] is said[1][0]
    assert all(("missing" if "missing" in str(options) else "layers_") in text for _, text in said)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"layers_to_transform": 1},
        {"layers_to_transform": [0, 2]},
        {"layers_to_transform": [0, 2], "layers_pattern": "layers"},
        {"layers_to_transform": [1], "layers_pattern": ["layers", "blocks"]},
        {"exclude_modules": ["DOWN"]},
        {"target_modules": "all-linear"},
        {"target_modules": r".*\.1\..*UP"},
    ],
    ids=str,
)
def test_the_blocks_are_those_of_lora(kind, options):
    up, down = kind[1]

    def named(value):
        return value.replace("UP", up).replace("DOWN", down) if isinstance(value, str) else value

    options = {k: [named(x) for x in v] if isinstance(v, list) else named(v) for k, v in options.items()}
    ours = get_peft_model(kind[0](), made(kind, **options))
    lora = get_peft_model(kind[0](), made(kind, LoraConfig, **options))
    start = "base_model.model."
    theirs = {n.removeprefix(start).split(".lora_A")[0] for n, _ in lora.named_parameters() if ".lora_A" in n}
    assert set(experts_per_block(ours)) == theirs and theirs


def test_modules_to_save_are_trained_saved_and_switched_with_their_adapter(kind, tmp_path):
    model = trained(adapted(kind, modules_to_save=[kind[2]]))
    first, plain = output(model), kind[0]()
    name = f"base_model.model.{kind[2]}.weight"
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert not torch.equal(saved[name], plain.state_dict()[f"{kind[2]}.weight"])
    assert torch.equal(output(PeftModel.from_pretrained(kind[0](), tmp_path).eval()), first)
    model.add_adapter("second", made(kind, modules_to_save=[kind[2]]))
    model.set_adapter("second")
    assert not torch.equal(output(model), first)
    with model.disable_adapter():
        assert torch.equal(output(model), output(plain))
    model.set_adapter("default")
    assert torch.equal(output(model), first)


def test_rows_of_the_embedding_are_trained_alone(kind, tmp_path):
    rows = [3, 5]
    model = trained(adapted(kind, trainable_token_indices={kind[3]: rows}))
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(kind[0](), tmp_path).eval()
    assert torch.equal(output(again), output(model))
    (values,) = (v for k, v in load_file(tmp_path / "adapter_model.safetensors").items() if kind[3] in k)
    table = next(p for n, p in kind[0]().named_parameters() if kind[3] in n)
    assert values.shape == (2, table.shape[1]) and not torch.equal(values, table[rows])
    with model.disable_adapter():
        assert torch.equal(output(model), output(kind[0]()))


def test_a_base_prepared_as_for_8_bit_training_trains_its_adapter_alone(kind):
    base = kind[0]()
    base.is_loaded_in_8bit = True  # as the loader marks it: PEFT then freezes it and, of a decoder, sets checkpoints
    base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=kind[0] is decoder)
    assert kind[0] is mlp or base.is_gradient_checkpointing
    assert not any(p.requires_grad for p in base.parameters())
    model = get_peft_model(base, made(kind)).train()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    trained(model, steps=1)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved and moved <= {n for n in before if "smoe_" in n}


def test_a_decoder_generates_with_and_without_its_adapter():
    kind = MODELS["decoder"]
    model = adapted(kind)
    options = dict(input_ids=IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=4, do_sample=False)
    assert model.generate(**options).shape == (2, 12)
    with model.disable_adapter():
        assert torch.equal(model.generate(**options), kind[0]().generate(**options))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpoints_change_no_gradient(use_reentrant):
    gradients = []
    for checkpoints in (False, True):
        model = adapted(MODELS["decoder"], lora_dropout=0.0).train()
        if checkpoints:
            model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
            model.enable_input_require_grads()
        model(input_ids=IDS).logits.square().mean().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    torch.testing.assert_close(gradients[1], gradients[0])
