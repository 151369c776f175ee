"""lm-evaluation-harness, called in process: the model that it sees, and its results as scores.

Traps met on the way (lm-eval 0.4.13): the batch size must be set on the wrapper and never be "auto", since scores move
with it; with bf16 weights its log-softmax stays in bf16 unless told otherwise, and sums of such log-probabilities tie;
wrapping a model leaves it in evaluation mode; `bootstrap_iters=0` would turn every standard error into "N/A".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lm_eval.evaluator import evaluate as lm_evaluate
from lm_eval.models.huggingface import HFLM

from benchmarks.jobs.scoring import score
from results import Score


class Wrapped(HFLM):
    """lm-eval's view of a model already loaded, which counts tokens and tells how far it is."""

    def __init__(self, model: torch.nn.Module, tokenizer: Any, batch_size: int, progress: Callable[[int, int], None]):
        super().__init__(
            pretrained=model, tokenizer=tokenizer, batch_size=batch_size, softmax_dtype="float32", backend="causal"
        )
        self.tokens = 0  # that stood in a request, padding left out
        self._progress = progress
        self._calls = 0
        self._requests = 0

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = False, override_bs: int | None = None) -> Any:
        # Requests that differ only in a one-token continuation share one pass, so the distinct inputs are what is run.
        inputs = {tuple(context + continuation[:-1]) for _, context, continuation in requests}
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
) -> tuple[dict[str, Score], int]:
    """Score the model on every task; also returns the tokens that went through it.

    The model's training mode is restored, and no random generator is touched.
    """
    training = model.training
    lm = Wrapped(model, tokenizer, batch_size, progress)
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
    return scores, lm.tokens
