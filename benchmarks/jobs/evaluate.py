"""lm-evaluation-harness, called in process: the model that it sees, and its results as scores.

Traps met on the way (lm-eval 0.4.13): the batch size must be set on the wrapper and never be "auto", since scores move
with it; with bf16 weights its log-softmax stays in bf16 unless told otherwise, and sums of such log-probabilities tie;
wrapping a model leaves it in evaluation mode; `bootstrap_iters=0` would turn every standard error into "N/A".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import lm_eval.utils
import torch
from lm_eval.evaluator import evaluate as lm_evaluate
from lm_eval.models.huggingface import HFLM

from benchmarks.jobs import shared_prefix
from benchmarks.jobs.scoring import score
from benchmarks.models.attention import masked
from results import Score
from results.spec import LM_EVAL, SHARED_PREFIX

TOKENS_A_REQUEST = 128  # a pass of shared prefixes holds so many tokens for each request of `batch_size`

# lm-eval compiles a task's templates anew for every document: most of the time that its requests take.
lm_eval.utils.env.from_string = lru_cache(maxsize=None)(lm_eval.utils.env.from_string)  # type: ignore[method-assign]


class Evaluation(NamedTuple):
    """What `evaluate` found."""

    scores: dict[str, Score]  # by task
    tokens: int  # that went through the model
    scorer: str  # "shared-prefix" or "lm-eval", with the reason where the other was asked for


class Wrapped(HFLM):
    """lm-eval's view of a model already loaded, which counts tokens and tells how far it is.

    scorer: "shared-prefix" reads what the choices of a document have in common once, where the model can be asked so.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: Any,
        batch_size: int,
        progress: Callable[[int, int], None],
        scorer: str = LM_EVAL,
    ):
        logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of a model that is already loaded
        super().__init__(
            pretrained=model, tokenizer=tokenizer, batch_size=batch_size, softmax_dtype="float32", backend="causal"
        )
        self.tokens = 0  # that went through the model, padding left out
        self.scorer: str = LM_EVAL  # that was used
        self._asked = scorer
        self._progress = progress
        self._calls = 0
        self._requests = 0

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = False, override_bs: int | None = None) -> Any:
        if self._asked == SHARED_PREFIX and requests:
            with masked(self.model) as model:
                shared = shared_prefix.Scorer(model, TOKENS_A_REQUEST * int(self.batch_size))
                longest = max(len(context) + len(continuation) for _, context, continuation in requests)
                refusal = shared.refusal(longest, min(self.vocab_size, len(self.tokenizer)))
                if refusal is None:
                    self.scorer = SHARED_PREFIX
                    pairs = [(context, continuation) for _, context, continuation in requests]
                    answers = shared.loglikelihoods(pairs, self.max_length, self._progress)
                    self.tokens += shared.tokens
                    return answers
            self.scorer = f"{LM_EVAL}: {refusal}"
        # Requests that differ only in a one-token continuation share one pass, so the distinct inputs are what is run.
        inputs = {tuple((context + continuation)[-self.max_length - 1 : -1]) for _, context, continuation in requests}
        self.tokens += sum(map(len, inputs))
        self._calls, self._requests = 0, len(inputs)
        return super()._loglikelihood_tokens(requests, disable_tqdm=True, override_bs=override_bs)

    def _model_call(self, inps: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._calls += len(inps)
        self._progress(min(self._calls, self._requests), self._requests)
        return super()._model_call(inps, *args, **kwargs)

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        self._calls, self._requests = 0, len(requests)
        return super().generate_until(requests, disable_tqdm=True)

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **kwargs: Any) -> torch.Tensor:
        self._calls += len(context)
        self._progress(self._calls, self._requests)
        # A row ends where training ends an answer, whatever end the model's own generation settings name.
        output = super()._model_generate(context, max_length, stop, eos_token_id=self.eot_token_id, **kwargs)
        ended = output[:, context.shape[1] :] == self.eot_token_id
        written = (ended.cumsum(1) - ended.long() == 0).sum()  # up to the end token, which is one of them
        self.tokens += int(kwargs["attention_mask"].sum() + written) - len(context)  # the last ones were not read
        return output


def evaluate(
    model: torch.nn.Module,
    tokenizer: Any,
    tasks: Mapping[str, Any],
    headline: Mapping[str, str],
    batch_size: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    scorer: str = SHARED_PREFIX,
) -> Evaluation:
    """Score the model on every task.

    The model's training mode is restored, and no random generator is touched.
    """
    training = model.training
    lm = Wrapped(model, tokenizer, batch_size, progress, scorer)
    try:
        output = lm_evaluate(lm, {"tasks": dict(tasks), "groups": {}}, bootstrap_iters=100)
    finally:
        model.train(training)
    assert output is not None  # None only on the other ranks of a distributed run
    scores = {}
    for name, task in tasks.items():
        try:
            scores[name] = score(headline[name], output["results"][name], output["samples"][name], task)
        except FloatingPointError as error:
            raise FloatingPointError(f"task {name}: {error}") from error
    return Evaluation(scores, lm.tokens, lm.scorer)


def asked_of(model: torch.nn.Module, tokenizer: Any, tasks: Mapping[str, Any]) -> list[shared_prefix.Request]:
    """Return what the tasks ask of a model, (context, continuation) in tokens, without asking it."""
    listener = _Listener(model, tokenizer, 1, lambda done, total: None)
    lm_evaluate(listener, {"tasks": dict(tasks), "groups": {}}, bootstrap_iters=0)
    return listener.requests


class _Listener(Wrapped):
    requests: list[shared_prefix.Request]

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = False, override_bs: int | None = None) -> Any:
        self.requests = [(context, continuation) for _, context, continuation in requests]
        return [(0.0, False)] * len(requests)
