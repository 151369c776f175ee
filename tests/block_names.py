"""Names of weight matrices in several architectures with their layer and projection: what `place` must answer.

One table for the two functions of that name, `smoe.place` and, where torch must not be imported, `results.names.place`.
"""

from __future__ import annotations

PLACES: dict[str, tuple[int | None, str]] = {
    "model.layers.0.self_attn.q_proj": (0, "q_proj"),  # Llama, Qwen, Mistral, Gemma
    "model.layers.31.mlp.down_proj": (31, "down_proj"),
    "layers.7.mlp.up_proj": (7, "up_proj"),
    "3.mlp.up_proj": (3, "up_proj"),
    "transformer.h.11.attn.c_attn": (11, "c_attn"),  # GPT-2
    "transformer.h.11.mlp.c_proj": (11, "c_proj"),
    "model.decoder.layers.5.fc1": (5, "fc1"),  # OPT
    "model.decoder.layers.5.self_attn.out_proj": (5, "out_proj"),
    "gpt_neox.layers.4.attention.query_key_value": (4, "query_key_value"),  # NeoX, Pythia
    "transformer.h.2.self_attention.dense": (2, "dense"),  # BLOOM
    "model.layers.6.block_sparse_moe.experts.3.w1": (6, "w1"),  # Mixtral: the layer is the first number
    "model.language_model.layers.9.mlp.gate_proj": (9, "gate_proj"),
    "lm_head": (None, "lm_head"),  # outside the layers
    "model.embed_tokens": (None, "embed_tokens"),
    "model.decoder.project_in": (None, "project_in"),
    "classifier.0": (None, "0"),  # a number that ends the name is the matrix itself, not a layer around it
    "model.layers2.q_proj": (None, "q_proj"),  # only a whole part of the name is a number
}
