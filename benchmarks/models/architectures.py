"""Architectures of the published shape, for `random:<name>`: what a model costs does not depend on its weights.

Written from the published dimensions; a test compares the parameters with the published totals. Scaled position
embeddings are left out, since they have no weights. `random:<name>:layers=4` cuts the depth.

`random:llama:width=256:layers=4` is a narrow Llama for cost laws: heads of 32, an MLP of 8/3 of the width as in Llama
2, a vocabulary of one token a byte, so that the blocks and not the head are what is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig

from results.names import pick, unknown

PREFIX = "random:"
FREE = "llama"  # the name whose width can be chosen
HEAD = 32  # its head size
BYTES = 258  # vocabulary of the byte tokeniser: every byte, start and end


def _shape(kind: str, vocabulary: int, width: int, mlp: int, layers: int, heads: int, kv: int, **more: Any) -> dict:
    return dict(
        model_type=kind,
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        **more,
    )


SHAPES: Mapping[str, Mapping[str, Any]] = {
    "Llama-2-7B": _shape("llama", 32000, 4096, 11008, 32, 32, 32),
    "Llama-3.1-8B": _shape("llama", 128256, 4096, 14336, 32, 32, 8),
    "Llama-3.2-1B": _shape("llama", 128256, 2048, 8192, 16, 32, 8, head_dim=64, tie_word_embeddings=True),
    "Llama-3.2-3B": _shape("llama", 128256, 3072, 8192, 28, 24, 8, head_dim=128, tie_word_embeddings=True),
    "Qwen2.5-0.5B": _shape("qwen2", 151936, 896, 4864, 24, 14, 2, tie_word_embeddings=True),
    "Qwen2.5-1.5B": _shape("qwen2", 151936, 1536, 8960, 28, 12, 2, tie_word_embeddings=True),
    "Qwen2.5-3B": _shape("qwen2", 151936, 2048, 11008, 36, 16, 2, tie_word_embeddings=True),
    "Qwen2.5-7B": _shape("qwen2", 152064, 3584, 18944, 28, 28, 4),
    "Qwen3-4B": _shape("qwen3", 151936, 2560, 9728, 36, 32, 8, head_dim=128, tie_word_embeddings=True),
    "Mistral-7B": _shape("mistral", 32000, 4096, 14336, 32, 32, 8),
    "Gemma-2-2B": _shape("gemma2", 256000, 2304, 9216, 26, 8, 4, head_dim=256, tie_word_embeddings=True),
}


def config(name: str) -> Any:
    """Make the transformers configuration of `random:<name>` and its settings. Raises ValueError for an unknown one."""
    shape, *settings = name.removeprefix(PREFIX).split(":")
    free = shape == FREE
    values = {"width": 256, "layers": 4} if free else {}
    for setting in settings:
        field, _, value = setting.partition("=")
        allowed = ("width", "layers") if free else ("layers",)
        if field not in allowed:
            raise unknown(f"setting of {PREFIX}{shape}", field, allowed)
        if not value.isdecimal() or int(value) < 1:
            raise ValueError(f"model {name!r}: {field} must be a number of at least 1, not {value!r}")
        values[field] = int(value)
    if free:
        width = values["width"]
        if width % HEAD:
            raise ValueError(f"model {name!r}: width must be a multiple of {HEAD}")
        mlp = -(-8 * width // (3 * HEAD)) * HEAD
        heads = width // HEAD
        fields = _shape("llama", BYTES, width, mlp, values["layers"], heads, heads, tie_word_embeddings=True)
    else:
        fields = dict(pick("architecture", shape, {**SHAPES, FREE: {}}))
        fields["num_hidden_layers"] = values.get("layers", fields["num_hidden_layers"])
    return AutoConfig.for_model(fields.pop("model_type"), **fields)
