"""Operations and bytes of evaluation and of serving, counted from shapes, against torch's counter and real tensors."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.data import synthetic
from benchmarks.jobs.serving import merged_copy
from benchmarks.jobs.shared_prefix import Scorer
from benchmarks.models import load as models
from benchmarks.plan.parse import parse_methods
from reports.analysis.costs import arithmetic, inference

MODEL = "random:llama:width=64:layers=2"
METHODS = ["frozen", "lora:r=6:alpha=12", "molora:r=4:alpha=8:num_experts=3"]
CONTEXT, CHOICES = 24, (1, 4, 9)


def made(method):
    """(attached model, shape, its adapter)."""
    model, _ = models.load(MODEL, "float32", "cpu")
    shape = arithmetic.Shape(**synthetic.shape(model.config))
    (contestant,) = parse_methods(method)
    attached = contestant.attach(model, {}, 1).eval()
    if method == "frozen":
        return attached, shape, arithmetic.Adapter({})
    return attached, shape, arithmetic.uniform(shape, contestant.r, getattr(contestant, "num_experts", 1))


def operations(run):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def requests():
    """Choices that differ from their first token on."""
    context = list(range(5, 5 + CONTEXT))
    return [(context, [100 + 20 * i + j for j in range(n)]) for i, n in enumerate(CHOICES)]


@pytest.mark.parametrize("method", METHODS)
def test_scoring_by_shared_prefixes_has_the_operations_that_torch_counts(method):
    model, shape, adapter = made(method)
    scorer = Scorer(model, 10_000)
    counted = operations(lambda: scorer.loglikelihoods(requests(), 512, lambda done, total: None))
    assert inference.shared_prefix(shape, adapter, CONTEXT, CHOICES) == pytest.approx(counted, rel=0.01)
    assert scorer.tokens == CONTEXT + sum(n - 1 for n in CHOICES)


@pytest.mark.parametrize("method", METHODS)
def test_scoring_request_by_request_has_the_operations_that_torch_counts(method):
    model, shape, adapter = made(method)

    def ask():
        for context, choice in requests():
            model(input_ids=torch.tensor([context + choice[:-1]]))

    expected = inference.by_request(shape, adapter, CONTEXT, CHOICES)
    assert expected == pytest.approx(operations(ask), rel=0.01)
    assert expected > 2 * inference.shared_prefix(shape, adapter, CONTEXT, CHOICES)


@pytest.mark.parametrize("form", ["attached", "merged"])
@pytest.mark.parametrize("method", METHODS)
def test_reading_a_prompt_and_writing_a_token_have_the_operations_that_torch_counts(method, form):
    model, shape, adapter = made(method)
    if form == "merged":
        merged, _ = merged_copy(model)
        if merged is None:
            pytest.skip("a router is not merged")
        model, adapter = merged, arithmetic.Adapter({})
    rows, ids = 3, torch.arange(20).repeat(3, 1) + 5
    kept = {}

    def read():
        kept["cache"] = model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values

    assert rows * inference.prefill(shape, adapter, 20) == pytest.approx(operations(read), rel=0.01)
    write = lambda: model(input_ids=ids[:, :1], past_key_values=kept["cache"], use_cache=True)  # noqa: E731
    assert rows * inference.decoding(shape, adapter, 20) == pytest.approx(operations(write), rel=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_bytes_that_writing_a_token_reads_are_those_of_the_weights_and_the_cache(method):
    model, shape, adapter = made(method)
    rows, past = 3, 20
    with torch.no_grad():
        cache = model(input_ids=torch.arange(past).repeat(rows, 1) + 5, use_cache=True).past_key_values
    held = sum(t.nbytes for layer in cache.layers for t in (layer.keys, layer.values))
    assert rows * inference.cache_bytes(shape, past, 4) == held
    table, head = (get().weight for get in (model.get_input_embeddings, model.get_output_embeddings))
    read = sum(p.nbytes for p in model.parameters() if p.ndim > 1 and (p is not table or table is head))
    assert inference.decoding_bytes(shape, adapter, past, rows, 4) == read + held
