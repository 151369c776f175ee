"""`layers_to_transform`, `layers_pattern` and `trainable_token_indices` mean what they mean in PEFT's LoRA."""

from __future__ import annotations

import itertools

import pytest
import torch
from families import family
from peft import LoraConfig, PeftModel, get_peft_model

from smoe import SMoEConfig, find_blocks, smoe_layers

NAMES = {
    "llama": (["q_proj", "down_proj"], ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj"]),
    "gpt2": (["c_attn", "c_fc"], ["transformer.h.0.attn.c_attn", "transformer.h.1.mlp.c_fc"]),
}
LAYERS = (
    {},
    {"layers_to_transform": 1},
    {"layers_to_transform": [0]},
    {"layers_to_transform": []},
    {"layers_to_transform": [0, 1], "layers_pattern": "layers"},
    {"layers_to_transform": [1], "layers_pattern": ["h"]},
    {"layers_pattern": "layers"},
)


def taken(model, config):
    """The blocks that a tuner takes, or that it refuses."""
    try:
        return set(get_peft_model(model, config).base_model.targeted_module_names)
    except ValueError:
        return "refused"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_the_blocks_are_those_that_lora_takes_or_refuses(name):
    found = set()
    for targets, layers in itertools.product([*NAMES[name], "all-linear", r".*\.(q_proj|c_attn)"], LAYERS):
        made = []
        for kind in (LoraConfig, SMoEConfig):
            try:
                made.append(taken(family(name), kind(target_modules=targets, **layers)))
            except ValueError:  # of the configuration itself
                made.append("refused")
        assert made[0] == made[1], (targets, layers)
        found.add(str(made[0]) if made[0] == "refused" else len(made[0]))
    assert "refused" in found and len(found) > 3


@pytest.mark.parametrize("name", NAMES)
def test_layers_hold_for_the_familys_own_blocks_and_for_a_pattern(name):
    blocks = list(find_blocks(family(name)))
    second = {block for block in blocks if ".1." in block}
    model = get_peft_model(family(name), SMoEConfig(layers_to_transform=[1]))
    assert set(smoe_layers(model)) == second
    model = get_peft_model(family(name), SMoEConfig(layers_to_transform=1, expert_pattern=dict.fromkeys(blocks, 2)))
    assert set(smoe_layers(model)) == second


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"target_modules": "all-linear", "layers_to_transform": [0]},
            "layers_to_transform cannot be used when",
        ),
        ({"target_modules": ".*q_proj", "layers_pattern": "h"}, "layers_pattern cannot be used when target_modules"),
        ({"layers_pattern": "h"}, "layers_pattern 'h' needs layers_to_transform"),
    ],
)
def test_what_peft_refuses_is_refused_with_the_way_out(values, message):
    with pytest.raises(ValueError, match=message):
        SMoEConfig(**values)
    with pytest.raises(ValueError, match="layers_"):
        LoraConfig(**values)


@pytest.mark.parametrize("indices", [[3, 5], {"embed_tokens": [3, 5]}])
def test_rows_of_the_embedding_are_trained_saved_and_loaded(tmp_path, indices):
    model = get_peft_model(family("llama"), SMoEConfig(r=2, num_experts=2, trainable_token_indices=indices))
    before = model.get_input_embeddings().weight.detach().clone()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert any("token" in n for n, p in model.named_parameters() if p.requires_grad)
    ids = torch.tensor([[3, 4, 5, 6]])
    optimizer = torch.optim.SGD(trained, lr=1.0)
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    merged = model.eval()(input_ids=ids).logits
    assert not torch.allclose(merged, family("llama")(input_ids=ids).logits)
    changed = (model.get_input_embeddings().weight != before).any(1).nonzero()[:, 0].tolist()
    assert changed == [3, 5]
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(family("llama"), tmp_path)
    torch.testing.assert_close(again(input_ids=ids).logits, merged)
