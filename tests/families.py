"""One random model of every family: two layers, a hidden width of 16, the vocabulary of tests/tokenisers.py."""

from __future__ import annotations

from typing import Any

import torch
import transformers as tf

VOCABULARY = 260
SIZE: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "bos_token_id": 257, "eos_token_id": 258, "pad_token_id": 258,
}  # fmt: skip
GROUPED = SIZE | {"intermediate_size": 32, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 256}
SPARSE = GROUPED | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
VISION = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip

DENSE: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", GROUPED),
    "qwen2": ("Qwen2Config", {k: v for k, v in GROUPED.items() if k != "head_dim"}),
    "qwen3": ("Qwen3Config", GROUPED),
    "mistral": ("MistralConfig", GROUPED),
    "gemma2": ("Gemma2Config", GROUPED | {"query_pre_attn_scalar": 8}),
    "gemma3": ("Gemma3TextConfig", GROUPED | {"query_pre_attn_scalar": 8}),
    "phi3": ("Phi3Config", {k: v for k, v in GROUPED.items() if k != "head_dim"}),
    "gpt2": ("GPT2Config", SIZE | {"n_positions": 256}),
    "opt": ("OPTConfig", SIZE | {"ffn_dim": 32, "word_embed_proj_dim": 16, "max_position_embeddings": 256}),
    "gpt_neox": ("GPTNeoXConfig", SIZE | {"intermediate_size": 32, "max_position_embeddings": 256}),
    "bloom": ("BloomConfig", {k: v for k, v in SIZE.items() if k != "num_attention_heads"} | {"n_head": 2}),
    "gemma3 with vision": (
        "Gemma3Config",
        {
            "text_config": GROUPED | {"query_pre_attn_scalar": 8}, "vision_config": VISION, "mm_tokens_per_image": 4,
            "boi_token_index": 250, "eoi_token_index": 251, "image_token_index": 252,
        },
    ),
}  # fmt: skip
MIXTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "mixtral": ("MixtralConfig", GROUPED | {"num_local_experts": 4}),
    "qwen2_moe": ("Qwen2MoeConfig", SPARSE | {"shared_expert_intermediate_size": 8}),
    "qwen3_moe": ("Qwen3MoeConfig", SPARSE | {"mlp_only_layers": [0]}),
    "deepseek_v3": (
        "DeepseekV3Config",
        SIZE | {
            "intermediate_size": 32, "moe_intermediate_size": 8, "n_routed_experts": 4, "num_experts_per_tok": 2,
            "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "q_lora_rank": 8, "kv_lora_rank": 8,
            "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "num_key_value_heads": 2,
            "max_position_embeddings": 256,
        },
    ),
    "gpt_oss": ("GptOssConfig", GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 64}),
    "phimoe": ("PhimoeConfig", {k: v for k, v in GROUPED.items() if k != "head_dim"} | {"num_local_experts": 4}),
}  # fmt: skip
FAMILIES = {
    name: made for name, made in {**DENSE, **MIXTURES}.items() if hasattr(tf, made[0])  # the rest came later
}  # fmt: skip
RECURRENT: dict[str, tuple[str, dict[str, Any]]] = {
    "mamba": ("MambaConfig", SIZE | {"state_size": 4}),
    "qwen3_next": (
        "Qwen3NextConfig",
        SPARSE | {
            "num_hidden_layers": 4, "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8,
            "linear_value_head_dim": 8, "shared_expert_intermediate_size": 8,
        },
    ),
}  # fmt: skip


def config(name: str) -> Any:
    kind, values = {**FAMILIES, **RECURRENT}[name]
    return getattr(tf, kind)(**values)


def family(name: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return tf.AutoModelForCausalLM.from_config(config(name), attn_implementation="eager").eval()
