"""A tokeniser as training and evaluation need it: it opens a text at most, never closes one, and can pad."""

from __future__ import annotations

from typing import Any

from tokenizers import processors

from smoe.tokens import prefix_token


def prepared(tokenizer: Any, vocabulary: int, positions: int | None = None) -> Any:
    """Return the tokeniser, changed in place where it has to be.

    vocabulary: rows of the model's embedding; positions: tokens that the model reads at most, where it says so, which
    becomes the tokeniser's `model_max_length`. Special tokens that it puts behind a text are taken off, since behind a
    context they would stand before the answer. A padding token that is lacking or has no embedding becomes the end
    token (or the first), since padding is masked. Raises ValueError for a tokeniser without BOS and EOS, or one that
    closes texts and cannot be changed.
    """
    prefix_token(tokenizer)
    _leave_texts_open(tokenizer)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= vocabulary:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.bos_token
    if positions is not None:
        tokenizer.model_max_length = positions
    return tokenizer


def _leave_texts_open(tokenizer: Any) -> None:
    before, after = _around(tokenizer)
    if not after:
        return
    names = tokenizer.convert_ids_to_tokens(before)
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is not None:
        special = list(zip(names, before, strict=True))
        core.post_processor = processors.TemplateProcessing(single=[*names, "$A"], special_tokens=special)
    if _around(tokenizer)[1]:
        closing = " ".join(tokenizer.convert_ids_to_tokens(after))
        raise ValueError(
            f"the tokenizer closes every text with {closing}, so that it would stand before every answer; "
            "set add_eos_token to false in its tokenizer_config.json"
        )


def _around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the ids that the tokeniser puts before and behind a text by itself."""
    whole, plain = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start], whole[start + len(plain) :]
    return [], []
