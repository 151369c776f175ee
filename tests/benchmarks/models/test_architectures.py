"""Architectures of the published shape, quantised bases, and code that is not ours."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks.models import architectures
from benchmarks.models import load as models
from benchmarks.models.attention import SDPA_NO_SYNC, off_the_cpu
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve

PUBLISHED = {  # parameters of the released checkpoints
    "Llama-2-7B": 6_738_415_616,
    "Llama-3.1-8B": 8_030_261_248,
    "Llama-3.2-1B": 1_235_814_400,
    "Llama-3.2-3B": 3_212_749_824,
    "Qwen2.5-0.5B": 494_032_768,
    "Qwen2.5-1.5B": 1_543_714_304,
    "Qwen2.5-3B": 3_085_938_688,
    "Qwen2.5-7B": 7_615_616_512,
    "Qwen3-4B": 4_022_468_096,
    "Mistral-7B": 7_241_732_096,
    "Gemma-2-2B": 2_614_341_888,
}


@pytest.mark.parametrize("name", architectures.SHAPES)
def test_an_architecture_has_as_many_parameters_as_the_published_model(name):
    assert models.count(models.skeleton(f"random:{name}")) == PUBLISHED[name]


@pytest.mark.parametrize("name", architectures.SHAPES)
def test_the_attention_of_a_gpu_is_one_that_the_architecture_takes(name):
    kind = off_the_cpu(models.skeleton(f"random:{name}:layers=1"))
    assert kind == ("eager" if name.startswith("Gemma") else SDPA_NO_SYNC)
    with torch.device("meta"):
        config = architectures.config(f"random:{name}:layers=1")
        model = AutoModelForCausalLM.from_config(config, attn_implementation=kind)
    assert model.config._attn_implementation == kind


def test_depth_and_width_can_be_chosen():
    small = models.skeleton("random:Qwen2.5-7B:layers=2").config
    assert (small.num_hidden_layers, small.hidden_size) == (2, 3584)
    free = models.skeleton("random:llama:width=96:layers=3").config
    assert (free.hidden_size, free.intermediate_size, free.num_hidden_layers) == (96, 256, 3)
    assert (free.num_attention_heads, free.vocab_size) == (3, 258)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("random:llama-2-7b", "unknown architecture 'llama-2-7b'; .*Llama-2-7B"),
        ("random:Qwen2.5-7B:width=64", "unknown setting of random:Qwen2.5-7B 'width'; .*layers"),
        ("random:llama:width=100", "width must be a multiple of 32"),
        ("random:llama:layers=no", "layers must be a number of at least 1, not 'no'"),
    ],
)
def test_a_name_that_is_no_architecture_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        resolve(Request(model=name, device="cpu"))


def test_random_weights_are_the_same_every_time_in_the_dtype_of_the_run_and_frozen():
    (first, tokenizer), (second, _) = (models.load("random:llama:width=32:layers=1", "bfloat16", "cpu") for _ in "ab")
    assert all(a.equal(b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert {p.dtype for p in first.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in first.parameters())
    assert len(tokenizer) <= first.config.vocab_size


@pytest.mark.parametrize(("name", "needed"), [("Llama-2-7B", False), ("Qwen2.5-0.5B", True), ("llama", False)])
def test_the_tokeniser_fits_the_vocabulary(name, needed):
    assert models.needs_embedded(f"random:{name}") == needed


def test_a_quantised_base_is_refused_where_it_cannot_be_had():
    with pytest.raises(ValueError, match="quantize '4bit' needs a CUDA device; this run is on 'cpu'"):
        resolve(Request(model="tiny", device="cpu", quantize="4bit"))
    with pytest.raises(ValueError, match="unknown quantize '4bits'; did you mean 4bit"):
        resolve(Request(model="tiny", device="cpu", quantize="4bits"))


def test_a_quantised_base_without_bitsandbytes_is_answered_with_how_to_install_it(monkeypatch):
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install bitsandbytes"):
        models.check_quantize("8bit", "cuda")


def test_a_models_own_code_does_not_run_unless_asked_for_by_name(tmp_path, tokenizer):
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "code.Own", "AutoModelForCausalLM": "code.Own"}})
    )
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nraise RuntimeError('ran')\n")
    tokenizer.save_pretrained(tmp_path)
    for call in (lambda: models.skeleton(str(tmp_path)), lambda: models.load(str(tmp_path), "float32", "cpu")):
        with pytest.raises(ValueError, match="trust_remote_code"):
            call()
    assert not (tmp_path / "ran").exists()
    with pytest.raises(RuntimeError, match="ran"):
        models.skeleton(str(tmp_path), trust_remote_code=True)
    assert (tmp_path / "ran").exists()
