"""(context, answer) -> tokens: the one place where training, calibration samples and evaluation get theirs from.

An answer whose likelihood is scored is tokenised together with its context and split where the context alone ends. An
answer that is written follows the tokens of its context, which is all that generation sees: tokenised together, a
tokeniser may merge across the border (":" and a line break), and the first token to be written would never be trained.

Both are what lm-evaluation-harness 0.4.13 feeds a model (`TemplateLM._encode_pair`, `HFLM.generate_until`); a test
compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Tokens:
    """Token ids of one context and its answer."""

    context: tuple[int, ...]
    answer: tuple[int, ...]
    prefix: int  # leading tokens of the context that a cut keeps, such as BOS

    def __len__(self) -> int:
        return len(self.context) + len(self.answer)

    def cut(self, max_length: int) -> tuple[int, ...]:
        """Return at most `max_length` ids, context before answer: what is too much goes from behind the prefix.

        Raises ValueError where the prefix (one token at least) and the answer alone are longer.
        """
        ids = self.context + self.answer
        if len(ids) <= max_length:
            return ids
        room = max_length - max(self.prefix, 1)
        if len(self.answer) > room:
            raise ValueError(
                f"an answer of {len(self.answer)} tokens does not fit max_length {max_length}; it takes "
                f"{len(self.answer) + max(self.prefix, 1)} or more"
            )
        kept = max_length - self.prefix
        return ids[: self.prefix] + ids[len(ids) - kept :]


def scored_tokens(tokenizer: Any, context: str, answer: str) -> Tokens:
    """Tokenise an answer whose likelihood is scored: together with its context, whose trailing spaces it takes.

    An empty context becomes the tokeniser's prefix token (BOS, else EOS). Raises ValueError where the answer has no
    token, where no token stands before it, and for a tokeniser without BOS and EOS.
    """
    opening = tokenizer.decode([prefix_token(tokenizer)])
    if context == "":
        ids = tuple(tokenizer(answer, add_special_tokens=False, verbose=False)["input_ids"])
        before = prefix_token(tokenizer)
        split = (ids[:1], ids[1:]) if ids[:1] == (before,) else ((before,), ids)
        return _checked(Tokens(*split, prefix=1), context, answer)
    spaces = len(context) - len(context.rstrip())
    if spaces:
        context, answer = context[:-spaces], context[-spaces:] + answer
    whole = _encoded(tokenizer, context + answer, opening)
    first = _encoded(tokenizer, context, opening)
    # As lm-eval has it: the context alone, then what lies behind as many tokens of the two together. Where a token
    # spans the border the two overlap, and the model reads the context's own.
    return _checked(Tokens(first, whole[len(first) :], prefix=_prefix(tokenizer, first)), context, answer)


def written_tokens(tokenizer: Any, context: str, answer: str) -> Tokens:
    """Tokenise an answer that is written: the tokens of the context, then those of the answer without special tokens.

    Special tokens that stand in the answer's text, such as the one that ends it, are read as such. Raises ValueError
    where either has no token.
    """
    first = _encoded(tokenizer, context, tokenizer.bos_token)
    ids = tuple(tokenizer(answer, add_special_tokens=False, verbose=False)["input_ids"])
    return _checked(Tokens(first, ids, prefix=_prefix(tokenizer, first)), context, answer)


def prefix_token(tokenizer: Any) -> int:
    """Return the token that stands before an answer without context. Raises ValueError for a tokeniser without one."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise ValueError(
        "the tokenizer has neither a BOS nor an EOS token, and evaluation needs one; set bos_token or eos_token in its "
        "tokenizer_config.json"
    )


def _encoded(tokenizer: Any, text: str, opening: str | None) -> tuple[int, ...]:
    """Return the ids of a text, with the tokeniser's own special tokens unless the text begins with `opening`."""
    if opening is not None and text.startswith(opening):
        return tuple(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    return tuple(tokenizer(text, verbose=False)["input_ids"])  # texts too long are cut later, or counted


def _prefix(tokenizer: Any, ids: tuple[int, ...]) -> int:
    """Count the leading ids that the tokeniser puts before every text, or a BOS that stands in the text."""
    put_before = tuple(tokenizer("")["input_ids"])
    if put_before and ids[: len(put_before)] == put_before:
        return len(put_before)
    return int(tokenizer.bos_token_id is not None and ids[:1] == (tokenizer.bos_token_id,))


def _checked(tokens: Tokens, context: str, answer: str) -> Tokens:
    if not tokens.answer:
        raise ValueError(f"an answer of 0 tokens: {answer[:60]!r}")
    if not tokens.context:
        raise ValueError(f"no token stands before the answer {answer[:60]!r}: its context is {context[:60]!r}")
    return tokens
