"""The expert layer against PEFT's LoRA, a loop over tokens and experts in float64, and finite differences."""

from __future__ import annotations

import pytest
import torch
from oracles import smoe_layer, switch_balance
from peft import LoraConfig, get_peft_model
from torch import nn

from benchmarks.speed.rivals import LoopOverExperts
from smoe import SMoEConfig, balance_loss, layer, route, smoe_layers

I, O, R = 12, 10, 3  # noqa: E741


class One(nn.Module):
    def __init__(self, bias: bool = True, shape: tuple[int, int] = (I, O)) -> None:
        super().__init__()
        self.block = nn.Linear(*shape, bias=bias)

    def forward(self, x):
        return self.block(x)


def wrapped(dtype=torch.float64, shape=(I, O), **options):
    torch.manual_seed(0)
    defaults = {"r": R, "lora_dropout": 0.0, "target_modules": ["block"], "init_weights": False}
    model = get_peft_model(
        One(False, shape).to(dtype), SMoEConfig(**(defaults | options)), autocast_adapter_dtype=False
    )
    return model, smoe_layers(model)["block"]


def parts(layer):
    """The stacked tensors as the equation's matrices: [(A_e, B_e)], router."""
    experts, a, b = layer.experts["default"], layer.smoe_A["default"], layer.smoe_B["default"]
    rows = a.shape[0] - (experts if experts > 1 else 0)
    pairs = []
    for e in range(experts):
        low = 0 if layer.configs["default"].share_A else e * R
        pairs.append((a[low : low + R], b[:, e * R : (e + 1) * R]))
    return pairs, a[rows:] if experts > 1 else None


@pytest.mark.parametrize("experts", [1, 2, 5])
@pytest.mark.parametrize("share_A", [False, True])
@pytest.mark.parametrize(("top_k", "renormalise"), [(None, True), (1, True), (2, True), (2, False), (9, True)])
def test_layer_equals_loop_over_tokens_and_experts(experts, share_A, top_k, renormalise):
    model, layer = wrapped(num_experts=experts, share_A=share_A, top_k=top_k, renormalise=renormalise)
    x = torch.randn(7, I, dtype=torch.float64)
    pairs, router = parts(layer)
    k = None if top_k is None else min(top_k, experts)
    expected = smoe_layer(x, layer.base_layer.weight, pairs, router, 16 / R, k, renormalise)
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)


def test_gradients_equal_those_of_the_loop():
    model, layer = wrapped(num_experts=4, top_k=2)
    x = torch.randn(6, I, dtype=torch.float64, requires_grad=True)
    weight_of_each_output = torch.randn(6, O, dtype=torch.float64)
    wanted = [x, layer.smoe_A["default"], layer.smoe_B["default"]]
    fast = torch.autograd.grad((model(x) * weight_of_each_output).sum(), wanted)
    pairs, router = parts(layer)
    slow_y = smoe_layer(x, layer.base_layer.weight, pairs, router, 16 / R, 2, True)
    slow = torch.autograd.grad((slow_y * weight_of_each_output).sum(), wanted)
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"share_A": True}, {"top_k": 2}, {"top_k": 2, "renormalise": False}])
def test_gradients_equal_finite_differences(options):
    model, layer = wrapped(shape=(4, 3), r=2, num_experts=3, **options)
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)

    def forward(x, a, b):
        return torch.func.functional_call(
            model, {k: a if "smoe_A" in k else b for k, p in model.named_parameters() if p.requires_grad}, (x,)
        )

    assert torch.autograd.gradcheck(forward, (x, layer.smoe_A["default"], layer.smoe_B["default"]), atol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
def test_one_expert_equals_peft_lora(bias):
    torch.manual_seed(0)
    base = One(bias)
    state = base.state_dict()
    ours = get_peft_model(base, SMoEConfig(r=R, num_experts=1, lora_dropout=0.0, target_modules=["block"]))
    theirs = One(bias)
    theirs.load_state_dict(state)
    theirs = get_peft_model(theirs, LoraConfig(r=R, lora_alpha=16, target_modules=["block"]))
    a, b = torch.randn(R, I), torch.randn(O, R)
    layer, lora = smoe_layers(ours)["block"], theirs.base_model.model.block
    with torch.no_grad():
        layer.smoe_A["default"].copy_(a)
        layer.smoe_B["default"].copy_(b)
        lora.lora_A["default"].weight.copy_(a)
        lora.lora_B["default"].weight.copy_(b)
    x = torch.randn(2, 5, I)
    left, right = ours(x), theirs(x)
    torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)
    left.square().sum().backward()
    right.square().sum().backward()
    for mine, other in (("smoe_A", "lora_A"), ("smoe_B", "lora_B")):
        expected = getattr(lora, other)["default"].weight.grad
        torch.testing.assert_close(getattr(layer, mine)["default"].grad, expected, rtol=1e-5, atol=1e-5)


def test_one_expert_starts_with_the_same_draw_as_peft_lora():
    a = torch.empty(R, I)
    torch.manual_seed(3)
    nn.init.kaiming_uniform_(a, a=5**0.5)
    base = One()
    torch.manual_seed(3)
    model = get_peft_model(base, SMoEConfig(r=R, num_experts=1, target_modules=["block"]))
    assert torch.equal(smoe_layers(model)["block"].smoe_A["default"], a)


def test_all_experts_with_even_gates_equal_the_dense_mean():
    model, layer = wrapped(num_experts=4, router_init=0.0)
    x = torch.randn(5, I, dtype=torch.float64)
    pairs, _ = parts(layer)
    dense = layer.base_layer.weight + 16 / R * sum(b @ a for a, b in pairs) / 4
    torch.testing.assert_close(model(x), x @ dense.T)


@pytest.mark.parametrize("options", [{"num_experts": 1}, {"num_experts": 6}, {"num_experts": 3, "share_A": True}])
def test_zero_b_leaves_the_base_model(options):
    model, layer = wrapped(init_weights=True, **options)
    x = torch.randn(5, I, dtype=torch.float64)
    assert torch.equal(model(x), layer.base_layer(x))


def test_output_keeps_the_base_dtype_under_bf16_and_autocast():
    model, _ = wrapped(dtype=torch.bfloat16, num_experts=3)
    assert model(torch.randn(4, I, dtype=torch.bfloat16)).dtype == torch.bfloat16
    model, _ = wrapped(dtype=torch.float32, num_experts=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(torch.randn(4, I))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()


def test_bf16_layer_is_close_to_its_fp32_self():
    model, _ = wrapped(dtype=torch.float32, num_experts=4)
    x = torch.randn(64, I)
    exact = model(x)
    rounded = model.to(torch.bfloat16)(x.bfloat16()).float()
    assert (rounded - exact).norm() / exact.norm() < 0.02


def test_loop_over_experts_is_the_same_layer():
    model, layer = wrapped(dtype=torch.float32, num_experts=4)
    loop = LoopOverExperts(layer.base_layer, 4, r=R, dropout=0.0)
    pairs, router = parts(layer)
    with torch.no_grad():
        loop.router.weight.copy_(router)
        for e, (a, b) in enumerate(pairs):
            loop.A[e].weight.copy_(a)
            loop.B[e].weight.copy_(b)
    x = torch.randn(9, I)
    torch.testing.assert_close(model(x), loop(x), rtol=1e-5, atol=1e-5)


def test_dropout_is_only_active_while_training():
    model, _ = wrapped(num_experts=3, lora_dropout=0.5)
    x = torch.randn(5, I, dtype=torch.float64)
    model.eval()
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


def test_router_softmax_is_fp32_and_gates_outside_top_k_are_zero():
    probabilities, gates = route(torch.randn(20, 5).bfloat16(), top_k=2, renormalise=True)
    assert probabilities.dtype == gates.dtype == torch.float32
    assert ((gates > 0).sum(-1) == 2).all()
    torch.testing.assert_close(gates.sum(-1), torch.ones(20))


def test_tied_logits_still_choose_exactly_k():
    _, gates = route(torch.zeros(4, 6), top_k=2)
    assert ((gates > 0).sum(-1) == 2).all()


@pytest.mark.parametrize("top_k", [None, 1, 2])
def test_balance_loss_counts_as_the_switch_paper(top_k):
    torch.manual_seed(1)
    probabilities = torch.softmax(torch.randn(30, 4, dtype=torch.float64), -1)
    assert balance_loss(probabilities, top_k).item() == pytest.approx(switch_balance(probabilities, top_k or 1))


def test_balance_loss_is_one_when_even_and_e_when_collapsed():
    even = torch.eye(4).repeat(5, 1)
    collapsed = torch.tensor([[1.0, 0, 0, 0]]).repeat(8, 1)
    assert balance_loss(even).item() == pytest.approx(1)
    assert balance_loss(collapsed).item() == pytest.approx(4)


def test_balance_loss_ignores_masked_tokens():
    probabilities = torch.softmax(torch.randn(10, 4), -1)
    mask = torch.tensor([1] * 6 + [0] * 4).bool()
    assert balance_loss(probabilities, 1, mask).item() == pytest.approx(balance_loss(probabilities[:6], 1).item())


def test_balance_gradient_pushes_the_favourite_down():
    logits = torch.tensor([[2.0, 0.0, 0.0]]).repeat(5, 1).requires_grad_()
    balance_loss(route(logits)[0]).backward()
    assert (logits.grad[:, 0] > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", [{"num_experts": 3}, {"num_experts": 2, "share_A": True}, {"num_experts": 1}])
def test_spare_rows_change_neither_outputs_nor_gradients(monkeypatch, options, dtype):
    found = []
    for rounded_on in ((), ("cpu",)):
        monkeypatch.setattr(layer, "ALIGNED_ON", rounded_on)
        monkeypatch.setattr(layer, "ALIGNED_FROM", 5 * I)
        _, made = wrapped(dtype, **options)
        x = torch.randn(5, I, dtype=dtype, requires_grad=True)
        y = made(x)
        y.backward(torch.randn_like(y))
        found.append([y, x.grad, made.smoe_A["default"].grad, made.smoe_B["default"].grad])
    for plain, rounded in zip(*found, strict=True):
        close = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.01}
        torch.testing.assert_close(rounded, plain, **close)
