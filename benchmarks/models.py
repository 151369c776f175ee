"""Model names -> a causal language model and its tokeniser, on a device in a dtype, all weights frozen.

`smollm2-135m` is the embedded model, `tiny` a random two-layer Llama for tests; anything else is a GGUF file, a local
folder or a hub id for `AutoModelForCausalLM`. Weights load from safetensors or GGUF only, and no remote code runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from benchmarks import assets
from benchmarks.registry import unknown

EMBEDDED = "smollm2-135m"
TINY = "tiny"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def check(name: str) -> None:
    """Raise ValueError for a name that is neither built in, nor a path, nor shaped like a hub id."""
    if name in (EMBEDDED, TINY) or Path(name).exists():
        return
    if name.endswith(".gguf") or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise unknown("model (or no such folder or file)", name, (EMBEDDED, TINY))


def load(name: str, dtype: str, device: str) -> tuple[PreTrainedModel, Any]:
    """The frozen model in evaluation mode, and its tokeniser with a padding token.

    Attention is "eager" on a CPU, where it is about a third faster than SDPA forward and backward at the lengths of
    these tasks, and SDPA elsewhere.
    """
    check(name)
    kwargs: dict[str, Any] = dict(dtype=DTYPES[dtype], attn_implementation="eager" if device == "cpu" else "sdpa")
    if name == TINY:
        torch.manual_seed(0)  # the same "pretrained" weights in every job
        model = AutoModelForCausalLM.from_config(_tiny_config(), **kwargs)
        tokenizer: Any = _byte_tokenizer()
    else:
        folder = _folder(name)
        model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, **kwargs)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.requires_grad_(False)
    if (head := model.get_output_embeddings()) is not None:
        # A slice of the last positions is not contiguous, and torch then multiplies batch by batch with a copy of the
        # whole vocabulary matrix for each: more time than the rest of a small model.
        head.register_forward_pre_hook(lambda _, args: (args[0].contiguous(), *args[1:]))
    return model.eval().to(device), tokenizer


def skeleton(name: str) -> PreTrainedModel:
    """The model without weights, on the "meta" device: its blocks and shapes, in no time and no memory.

    Raises ValueError for a model that is neither here nor to be had, AssetError for the embedded one.
    """
    try:
        config = _tiny_config() if name == TINY else AutoConfig.from_pretrained(_folder(name))
    except (OSError, ValueError) as error:
        raise ValueError(f"model {name!r}: {error}") from error
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def _folder(name: str) -> str:
    if name == EMBEDDED:
        return str(assets.embedded_model())
    if Path(name).is_file() and name.endswith(".gguf"):
        return str(assets.converted(Path(name)))
    return name


def _tiny_config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=256,
        eos_token_id=257,
        tie_word_embeddings=True,
    )


def _byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte: no vocabulary to ship, any text encodes and decodes exactly."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="</s>")
