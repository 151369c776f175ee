"""Byte-level tokenisers with the habits of published ones, built here, and a random model of their vocabulary."""

from __future__ import annotations

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

VOCABULARY = 260  # 256 bytes, ":\n", BOS, EOS and one that no text has
BOS, EOS = 257, 258
PAD_BEYOND = "[PAD]"


def tokeniser(before: bool = False, behind: bool = False, merges: bool = False, **special: str | None):
    """before, behind: whether it puts BOS and EOS around every text itself; merges: ":" and a line break to a token.

    special: the special tokens' names where they are not `<s>` and `</s>`; no padding token by default.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate([*letters, ":Ċ"])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[(":", "Ċ")] if merges else []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken("<s>"), AddedToken("</s>")])
    template = [*(["<s>"] if before else []), "$A", *(["</s>"] if behind else [])]
    core.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", BOS), ("</s>", EOS)])
    names = {"bos_token": "<s>", "eos_token": "</s>", **special}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, **{kind: name for kind, name in names.items() if name is not None}
    )


def padding_beyond_the_embedding():
    made = tokeniser()
    made.add_tokens([f"extra{i}" for i in range(5)])
    made.add_special_tokens({"pad_token": PAD_BEYOND})
    return made


HABITS = {
    "merges across the border": lambda: tokeniser(merges=True),
    "adds BOS": lambda: tokeniser(before=True),
    "adds BOS and merges": lambda: tokeniser(before=True, merges=True),
    "adds EOS": lambda: tokeniser(behind=True),
    "adds BOS and EOS": lambda: tokeniser(before=True, behind=True),
    "adds neither": lambda: tokeniser(),
    "has no BOS": lambda: tokeniser(bos_token=None),
    "has no padding token": lambda: tokeniser(before=True, pad_token=None),
    "pads beyond the embedding": padding_beyond_the_embedding,
}


def network(positions: int = 512):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=positions, bos_token_id=BOS, eos_token_id=EOS,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()
