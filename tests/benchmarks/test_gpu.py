"""What holds on a GPU alone. A rehearsal runs the same tests on the CPU, so that the card finds no slip of the pen."""

from __future__ import annotations

import os
import random
from contextlib import contextmanager

import pytest
import torch
from transformers.masking_utils import sdpa_mask

from baselines.methods.hydralora import HydraLora
from baselines.methods.lora import Lora
from baselines.methods.lora_smoe import LoraSMoE
from baselines.methods.molora import MoLora
from benchmarks.data import batches
from benchmarks.data.examples import Example
from benchmarks.jobs.train import LOSS_CHECK_INTERVAL, answer_loss, answer_width, train
from benchmarks.models.attention import SDPA_NO_SYNC, _mask
from benchmarks.models.load import load as load_model
from benchmarks.offline.gpu_pass import REHEARSAL

RANDOM = "random:llama:width=64:layers=2"
STEPS = 3 * LOSS_CHECK_INTERVAL  # the loss is looked at on the way
OPTIONS = dict(learning_rate=1e-2, warmup_fraction=0.0, weight_decay=0.0, seed=0)


@pytest.fixture
def device():
    if torch.cuda.is_available():
        return "cuda"
    if os.environ.get(REHEARSAL):
        return "cpu"
    pytest.skip("needs a CUDA device")


@contextmanager
def no_waiting(device):
    """Inside, whatever makes the host wait for the GPU raises."""
    if device == "cpu":
        yield
        return
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def drawn(lengths, answer=2):
    rng = random.Random(0)
    return [Example("t", tuple(rng.choices(range(256), k=n)), answer, False) for n in lengths]


def probe(device):
    found = batches.probe({"a": drawn([9, 12, 7]), "b": drawn([5, 14])}, 8, 4, 0)
    return {t: [{k: v.to(device) for k, v in b.items()} for b in own] for t, own in found.items()}


@pytest.mark.gpu
@pytest.mark.parametrize("lengths", [(20, 11, 16, 7), (16, 16, 16, 16)], ids=["padded", "full"])
@pytest.mark.parametrize(
    "method",
    [Lora(r=8), LoraSMoE(mean_experts=1), MoLora(balance_loss=0.01), MoLora(top_k=2), HydraLora()],
    ids=["lora", "smoe", "balance", "top", "hydra"],
)
def test_a_training_step_never_waits_for_the_device(device, method, lengths):
    model = method.attach(load_model(RANDOM, "bfloat16", device)[0], probe(device), STEPS)
    batch = [batches.collate(drawn(lengths), 0)], sum(lengths)
    watch = no_waiting(device)

    def progress(done, total, **_):  # the first steps warm up; the losses are read after the last
        if done == 2:
            watch.__enter__()
        if done == total:
            watch.__exit__(None, None, None)

    try:
        losses, _ = train(model, method, [batch] * STEPS, total_steps=STEPS, progress=progress, **OPTIONS)
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    assert len(losses) == STEPS and losses[-1] < losses[0]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_device_and_the_cpu_find_the_same_loss_and_gradients(device, dtype):
    found = []
    batch = batches.collate(drawn([20, 11, 16, 7]), 0)
    reference = load_model(RANDOM, "float32", "cpu")[0]
    for place, precision in (("cpu", "float32"), (device, dtype)):
        model = load_model(RANDOM, precision, place)[0]
        model.load_state_dict(reference.state_dict())  # random weights differ from one device to another
        model = MoLora().attach(model, {}, 1)
        torch.manual_seed(0)
        for name, p in sorted(model.named_parameters()):
            if "smoe_" in name:
                p.data.copy_(0.1 * torch.randn(p.shape))
        loss = answer_loss(model, {k: v.to(place) for k, v in batch.items()}, answer_width(batch))
        loss.backward()
        found.append({n: p.grad.float().cpu() for n, p in model.named_parameters() if p.grad is not None} | {"": loss})
    close = dict(rtol=1e-3, atol=1e-4) if dtype == "float32" else dict(rtol=0.1, atol=0.02)
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name].detach().cpu(), value.detach(), **close)


@pytest.mark.gpu
@pytest.mark.parametrize("width", [64, 192])
def test_gradients_are_finite_at_widths_where_cudnn_gives_nan(device, width):
    from smoe import sensitivity

    batch = batches.collate(drawn([width, 40, 33, 7]), 0)
    model = load_model("random:llama:width=128:layers=2", "bfloat16", device)[0]
    on_device = {k: v.to(device) for k, v in batch.items()}
    scores = sensitivity(model, {"a": [on_device]}).scores["a"]
    assert all(0 < score < float("inf") for score in scores.values())
    model = MoLora().attach(model, {}, 1)
    answer_loss(model, on_device, answer_width(batch)).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_cudnn_does_not_compute_attention():
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_a_mask_is_made_of_numbers_in_the_models_dtype_and_its_rows_are_aligned():
    kept = dict(batch_size=2, q_length=20, kv_length=20, attention_mask=torch.ones(2, 20, dtype=torch.bool))
    kept["attention_mask"][0, :5] = False
    made, plain = _mask(dtype=torch.bfloat16, **kept), sdpa_mask(allow_is_causal_skip=False, **kept)
    assert made.dtype == torch.bfloat16 and made.shape == plain.shape == (2, 1, 20, 20)
    assert torch.equal(made == 0, plain) and made[~plain].eq(torch.finfo(torch.bfloat16).min).all()
    assert all(stride % 16 == 0 for stride in made.stride()[:-1])


@pytest.mark.gpu
def test_sensitivity_finds_the_same_scores_on_the_device(device):
    from smoe import sensitivity

    reference = load_model(RANDOM, "float32", "cpu")[0]
    model = load_model(RANDOM, "float32", device)[0]
    model.load_state_dict(reference.state_dict())
    ours, theirs = (sensitivity(m, probe(place)).scores for m, place in ((model, device), (reference, "cpu")))
    for task, own in theirs.items():
        assert ours[task] == pytest.approx(own, rel=1e-2)


@pytest.mark.parametrize("lengths", [(20, 11, 16, 7), (16, 16, 16, 16)], ids=["padded", "full"])
def test_attention_that_asks_nothing_gives_what_sdpa_gives(lengths):
    model = load_model(RANDOM, "float32", "cpu")[0]
    batch = batches.collate(drawn(lengths), 0)
    losses = []
    for kind in ("sdpa", SDPA_NO_SYNC, "eager"):
        model.set_attn_implementation(kind)
        assert model.config._attn_implementation == kind
        losses.append(answer_loss(model, batch, answer_width(batch)).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6) and losses[0] == pytest.approx(losses[2], rel=1e-5)


def test_only_a_missing_mask_is_looked_at(monkeypatch):
    from transformers import masking_utils

    looks = []
    monkeypatch.setattr(masking_utils, "fast_all", lambda mask: looks.append(mask) or mask.all())
    model = load_model(RANDOM, "float32", "cpu")[0]
    batch = batches.collate(drawn([16, 16]), 0)
    for kind in (SDPA_NO_SYNC, "sdpa"):
        assert not looks
        model.set_attn_implementation(kind)
        model(input_ids=batch["input_ids"])
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    assert looks
