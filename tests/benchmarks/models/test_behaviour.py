"""Causality and padding: every family passes, what is no causal language model is refused."""

from __future__ import annotations

import pytest
import torch
import transformers as tf
from families import FAMILIES, family
from tokenisers import VOCABULARY, tokeniser

from benchmarks.models import behaviour, identity
from benchmarks.models.tokeniser import prepared

SMALL = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "pad_token_id": 258}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_causal_and_blind_to_padding(name):
    measured = behaviour.measure(family(name), prepared(tokeniser(before=True), VOCABULARY))
    assert 0 <= measured["later_token"] <= behaviour.LIMIT and 0 <= measured["padding"] <= behaviour.LIMIT
    behaviour.refuse(name, measured)


def test_a_bidirectional_model_and_one_that_reads_padding_are_refused():
    torch.manual_seed(0)
    bert = tf.BertConfig(**SMALL, num_attention_heads=2, intermediate_size=32, initializer_range=0.5)
    rwkv = tf.RwkvConfig(**{k: v for k, v in SMALL.items() if k != "pad_token_id"}, attention_hidden_size=16)
    for config, message in ((bert, "no causal language model: a later token"), (rwkv, "reads padding: beside a")):
        model = tf.AutoModelForCausalLM.from_config(config).eval()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data.normal_(std=0.5)
        measured = behaviour.measure(model, prepared(tokeniser(before=True), VOCABULARY))
        with pytest.raises(ValueError, match=message):
            behaviour.refuse("m", measured)


def test_what_is_not_finite_is_above_the_limit():
    assert behaviour._distance(torch.tensor([float("nan")]), torch.zeros(1)) == float("inf")


def test_the_answer_of_a_child_process_is_kept_by_the_models_content(monkeypatch, tmp_path):
    monkeypatch.setenv("SMOE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    family("gpt2").save_pretrained(folder)
    tokeniser(before=True).save_pretrained(folder)
    content = identity.content(str(folder))
    behaviour.check(str(folder), content)
    monkeypatch.setattr(behaviour, "_in_a_child", lambda *_: pytest.fail("measured again"))
    behaviour.check(str(folder), content)
    behaviour.check("tiny", None)
    monkeypatch.undo()
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="cannot be loaded: "):
        behaviour._in_a_child(str(folder), False)
