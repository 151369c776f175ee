"""The loss against plain sums in float64, and what the loop promises a method."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
import torch

from baselines.method import Method
from baselines.methods.adalora import AdaLora
from baselines.methods.lora import Lora
from baselines.methods.molora import MoLora
from benchmarks.data.batches import collate, micro_batches
from benchmarks.data.examples import Example
from benchmarks.jobs import job as jobs
from benchmarks.jobs import train as loop
from benchmarks.jobs.child import attempt
from benchmarks.models import load as models
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve


@pytest.fixture
def samples():
    rng = random.Random(0)
    shapes = [(20, 3), (11, 6), (16, 1), (7, 6)]
    return [Example("t", tuple(rng.randrange(256) for _ in range(n)), answer, False) for n, answer in shapes]


def plain_loss(model, samples):
    """Each sample by itself, unpadded, in float64: mean over answer tokens, then over samples."""
    model = model.double()
    losses = []
    for sample in samples:
        with torch.no_grad():
            log_probabilities = model(input_ids=torch.tensor([sample.ids])).logits[0].log_softmax(-1)
        start = len(sample.ids) - sample.answer_tokens
        told = [-log_probabilities[i - 1, sample.ids[i]] for i in range(start, len(sample.ids))]
        losses.append(sum(told) / len(told))
    return float(sum(losses) / len(losses))


@pytest.mark.parametrize("adapted", [False, True])
def test_the_loss_equals_a_plain_per_sample_computation_in_float64(samples, adapted):
    model, tokenizer = models.load(models.TINY, "float32", "cpu")
    if adapted:
        model = Lora(r=4).attach(model, {}, 1).eval()
        for name, p in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(p, std=0.5)
    batch = collate(samples, tokenizer.pad_token_id)
    loss = loop.answer_loss(model, batch, loop.answer_width(batch))
    assert loop.answer_width(batch) == 6
    assert loss.item() == pytest.approx(plain_loss(model, samples), rel=1e-6)


def test_logits_of_the_last_positions_alone_give_the_loss_and_gradients_of_all(samples, monkeypatch):
    def loss_and_gradients():
        model, tokenizer = models.load(models.TINY, "float32", "cpu")
        model.requires_grad_(True)
        batch = collate(samples, tokenizer.pad_token_id)
        loss = loop.answer_loss(model, batch, loop.answer_width(batch))
        loss.backward()
        return loss.detach(), [p.grad for p in model.parameters()]

    short = loss_and_gradients()
    monkeypatch.setattr(loop, "accepted_names", lambda model: {"input_ids", "attention_mask", "position_ids"})
    full = loss_and_gradients()
    torch.testing.assert_close(short, full, rtol=1e-5, atol=1e-8)


def gradients_of_a_step(method, parts, monkeypatch):
    """Every trained parameter's gradient as the optimiser meets it, and the step's loss."""
    torch.manual_seed(0)
    model = method.attach(models.load(models.TINY, "float32", "cpu")[0], {}, 4)
    for p in model.parameters():
        if p.requires_grad and p.ndim > 1:
            torch.nn.init.normal_(p, std=0.2)
    seen = {}

    def note(optimizer, *_, **__):
        seen.update(
            {i: p.grad.clone() for i, p in enumerate(optimizer.param_groups[0]["params"]) if p.grad is not None}
        )

    monkeypatch.setattr(torch.optim.AdamW, "step", note)
    losses, _tokens = loop.train(
        model, method, [(parts, 54)], total_steps=1, learning_rate=1e-3, warmup_fraction=0.0, weight_decay=0.0, seed=0
    )
    return seen, losses


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize(
    "method", [Lora(r=4, dropout=0.0), MoLora(r=4, num_experts=2, dropout=0.0), AdaLora(init_r=6, target_r=4)],
    ids=lambda m: m.name,
)  # fmt: skip
def test_micro_batches_give_the_loss_and_the_gradients_of_the_whole_step(method, size, samples, monkeypatch):
    whole, loss = gradients_of_a_step(method, micro_batches(samples, 4, 0), monkeypatch)
    parts, same_loss = gradients_of_a_step(method, micro_batches(samples, size, 0), monkeypatch)
    assert same_loss == pytest.approx(loss, rel=1e-5)
    assert whole.keys() == parts.keys() and any(g.abs().max() > 1e-4 for g in whole.values())
    for i, gradient in whole.items():
        torch.testing.assert_close(parts[i], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("warmup", "total"), [(4, 40), (0, 5), (5, 5), (1, 1)])
def test_every_step_has_a_rate_above_zero_and_warm_up_ends_at_the_peak(warmup, total):
    rates = [loop.rate(warmup, total, k) for k in range(total)]
    assert rates[:warmup] == pytest.approx([(k + 1) / warmup for k in range(warmup)])
    assert max(rates) == 1 and min(rates) > 0
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


def test_the_first_step_moves_the_weights():
    model, _ = toy_run(1, warmup_fraction=1.0)
    assert model.weight.abs().min() > 0


@dataclass(frozen=True, kw_only=True)
class Watched(Method):
    """Notes what the loop does around each step."""

    name = "watched"

    def attach(self, model, probe, total_steps):
        return model

    def penalty(self, model):
        EVENTS.append("penalty")
        return 3.0 * model.weight.sum()

    def after_step(self, model, step):
        EVENTS.append((step, model.weight.grad is not None and bool(model.weight.grad.any())))


EVENTS: list = []


class Toy(torch.nn.Module):
    """Logits that one weight decides, so that a penalty's gradient is plain to see."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))

    def forward(self, input_ids):
        return type("Output", (), {"logits": self.weight.expand(*input_ids.shape, 3)})


def toy_run(steps, **options):
    EVENTS.clear()
    model = Toy()
    batch = collate([Example("t", (0, 1), 1, False)], 2)
    settings = dict(total_steps=steps, learning_rate=0.1, warmup_fraction=0.0, weight_decay=0.0, seed=0) | options
    return model, loop.train(model, Watched(), [([batch], 2)] * steps, **settings)


def test_a_method_sees_the_gradients_after_every_step_and_its_penalty_is_not_in_the_losses():
    model, (losses, tokens) = toy_run(3)
    assert EVENTS == ["penalty", (1, True), "penalty", (2, True), "penalty", (3, True)]
    assert losses[0] == pytest.approx(torch.log(torch.tensor(3.0)).item()) and tokens == 6
    assert (model.weight < 0).all()  # the penalty's gradient of 3 outweighs the loss's, which is below 1
    assert model.weight.grad is None and not model.training


@dataclass(frozen=True, kw_only=True)
class Regularized(Watched):
    """A regularizer in place of the penalty."""

    name = "regularized"

    def penalty(self, model):
        return None

    def regularizer(self, model):
        EVENTS.append("regularizer")
        return 3.0 * model.weight.sum()


def test_a_regularizer_is_asked_for_once_a_step_whatever_its_micro_batches():
    EVENTS.clear()
    model = Toy()
    batch = collate([Example("t", (0, 1), 1, False)], 2)
    settings = dict(total_steps=1, learning_rate=0.1, warmup_fraction=0.0, weight_decay=0.0, seed=0)
    loop.train(model, Regularized(), [([batch] * 4, 8)], **settings)
    assert EVENTS == ["regularizer", (1, True)] and (model.weight < 0).all()


def test_progress_is_told_step_by_step():
    told = []
    toy_run(3, progress=lambda done, total, **facts: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_loss_that_is_not_finite_ends_the_run_with_its_step():
    model = Toy()
    model.weight.data.fill_(torch.inf)
    batch = collate([Example("t", (0, 1), 1, False)], 2)
    with pytest.raises(FloatingPointError, match="watched: the loss at step 1 is nan; a lower learning rate may help"):
        loop.train(
            model, Watched(), [([batch], 2)], total_steps=1, learning_rate=0.1, warmup_fraction=0.0, weight_decay=0.0,
            seed=0,
        )  # fmt: skip


def test_a_gradient_that_is_not_finite_ends_the_run_though_every_loss_was_finite():
    calls = []

    def last_is_nan(gradient):
        calls.append(gradient)
        return gradient * torch.nan if len(calls) == 3 else gradient

    model = Toy()
    model.weight.register_hook(last_is_nan)
    batch = collate([Example("t", (0, 1), 1, False)], 2)
    with pytest.raises(FloatingPointError, match="watched: the norm of the gradient at step 3 is nan"):
        loop.train(
            model, Watched(), [([batch], 2)] * 3, total_steps=3, learning_rate=0.1, warmup_fraction=0.0,
            weight_decay=0.0, seed=0,
        )  # fmt: skip
    assert len(calls) == 3


def test_a_weight_that_is_not_finite_after_the_last_step_ends_the_run(monkeypatch):
    monkeypatch.setattr(Watched, "after_step", lambda self, model, step: model.weight.data.fill_(torch.inf))
    with pytest.raises(FloatingPointError, match="watched: weights after step 1 are not finite"):
        toy_run(1)


def test_on_a_gpu_a_bad_step_is_told_at_a_later_look_or_at_the_end():
    watch = loop._Watch("watched", torch.device("meta"))  # any device but the CPU
    watch._on_cpu = False
    for step in range(1, 2 * loop.LOSS_CHECK_INTERVAL):
        watch.add(torch.tensor(1.0), torch.tensor(torch.nan if step == loop.LOSS_CHECK_INTERVAL else 1.0))
    with pytest.raises(FloatingPointError, match=f"norm of the gradient at step {loop.LOSS_CHECK_INTERVAL} is nan"):
        watch.add(torch.tensor(1.0), torch.tensor(1.0))
    with pytest.raises(FloatingPointError, match=f"at step {loop.LOSS_CHECK_INTERVAL} is nan"):
        watch.losses()


@pytest.mark.parametrize(
    "method", [Lora(r=4), MoLora(r=4, num_experts=2), AdaLora(init_r=6, target_r=4)], ids=lambda m: m.name
)
def test_compiled_steps_train_as_plain_ones_for_batches_of_any_length(method, samples, monkeypatch):
    compiled, compiler = [], torch.compile
    monkeypatch.setattr(torch, "compile", lambda *a, **k: compiled.append(k) or compiler(*a, backend="aot_eager", **k))
    stream = [([collate(samples[:n], 0)], 0) for n in (4, 2, 3, 1, 4, 2)]
    runs = []
    for through in (False, True):
        torch.compiler.reset()
        torch.manual_seed(0)
        model = method.attach(models.load(models.TINY, "float32", "cpu")[0], {}, len(stream))
        runs.append(
            loop.train(
                model, method, stream, total_steps=len(stream), learning_rate=1e-2, warmup_fraction=0.0,
                weight_decay=0.0, seed=0, compiled=through,
            )[0]
        )  # fmt: skip
    assert compiled == [{"dynamic": True}]
    assert runs[1] == pytest.approx(runs[0], rel=1e-4) and runs[0][-1] != pytest.approx(runs[0][0], rel=1e-3)


def test_a_job_trains_with_gradient_checkpointing_where_its_spec_asks_for_it(monkeypatch):
    asked, used = {"suite": "cost", "model": "tiny", "methods": "lora", "train_documents": 8, "limit": 1}, []
    checkpointed = jobs.checkpointed
    monkeypatch.setattr(jobs, "checkpointed", lambda model: used.append(1) or checkpointed(model))
    sizes = {"device": "cpu", "dtype": "float32", "max_length": 16, "batch_size": 4}
    plain, again = (
        attempt(resolve(Request(**asked, **sizes, gradient_checkpointing=asks))[0]) for asks in (False, True)
    )
    assert plain.error is None and again.losses == plain.losses and len(plain.losses) == 2 and used == [1]


def test_a_model_without_trainable_parameters_is_not_touched(tiny):
    assert loop.train(
        tiny[0], Watched(), iter(lambda: pytest.fail("a batch was asked for"), None), total_steps=4,
        learning_rate=0.1, warmup_fraction=0.0, weight_decay=0.0, seed=0,
    ) == ([], 0)  # fmt: skip
