"""Mixtures whose experts are whole feed-forward nets: against a loop in float64, and where they are LoRA."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from oracles import gates_of_token
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from smoe import SMoEConfig, changed_routing, record_routing, smoe_layers

EXPERTS, RANK, ALPHA = 4, 2, 6
NETS = ("gate_proj", "up_proj", "down_proj")
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def llama(layers=2):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=258, hidden_size=16, intermediate_size=24, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def adapted(base=None, **options):
    base = base or llama()
    experts = options.pop("num_experts", EXPERTS)
    blocks = [n for n, m in base.named_modules() if isinstance(m, nn.Linear) and n != "lm_head"]
    pattern = {b: experts if b.rsplit(".", 1)[-1] in NETS else 1 for b in blocks}
    defaults = {"lora_dropout": 0.0, "top_k": 2, "init_weights": False, "feed_forward": True}
    torch.manual_seed(1)
    config = SMoEConfig(r=RANK, lora_alpha=ALPHA, expert_pattern=pattern, **(defaults | options))
    return get_peft_model(base, config).eval()


def ids():
    return torch.randint(0, 256, (2, 7), generator=torch.Generator().manual_seed(2))


def net_of(model, layer=0):
    return model.base_model.model.model.layers[layer].mlp


def oracle(net, x, gates_of):
    """Token by token and expert by expert, W_d for every expert of a token, float64. x (T, I)."""
    gate, up, down = (getattr(net, name) for name in NETS)
    weights = {m: m.get_base_layer().weight.double() for m in (gate, up, down)}

    def projected(m, e, v):
        rows = slice(e * RANK, (e + 1) * RANK)
        a, b = m.smoe_A["default"].double()[rows], m.smoe_B["default"].double()[:, rows]
        return weights[m] @ v + ALPHA / RANK * (b @ (a @ v))

    router, out = gate.smoe_A["default"].double()[EXPERTS * RANK :], []
    for token in x.double():
        y = torch.zeros(len(token), dtype=torch.float64)
        for e, w in enumerate(gates_of(router @ token)):
            z = F.silu(projected(gate, e, token)) * projected(up, e, token)
            y = y + w * projected(down, e, z)
        out.append(y)
    return torch.stack(out)


def top_p(logits, p=0.8):
    probabilities, total, kept = torch.softmax(logits, 0), 0.0, {}
    for e in probabilities.argsort(descending=True).tolist():
        kept[e] = probabilities[e]
        total += float(probabilities[e].detach())
        if total > p:
            break
    return [kept.get(e, 0.0) for e in range(len(logits))]


@pytest.mark.parametrize(
    ("options", "gates_of"),
    [
        ({}, lambda z: gates_of_token(z, 2, True)),
        ({"top_k": None}, lambda z: gates_of_token(z, None, True)),
        ({"router": "top-p", "top_k": None, "renormalise": False}, top_p),
    ],
)
def test_the_net_is_the_loop_over_tokens_and_experts_with_a_down_product_for_each(options, gates_of):
    model = adapted(**options)
    net = net_of(model)
    net.gate_proj.smoe_A["default"].data[EXPERTS * RANK :] *= 4
    x = torch.randn(11, 16)
    torch.testing.assert_close(net(x).double(), oracle(net, x, gates_of), rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_the_loop():
    model = adapted()
    net = net_of(model)
    x = torch.randn(9, 16)
    weights = [p for p in net.parameters() if p.requires_grad]
    assert len(weights) == 6
    ours = torch.autograd.grad(net(x).square().sum(), weights)
    theirs = torch.autograd.grad(oracle(net, x, lambda z: gates_of_token(z, 2, True)).square().sum(), weights)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=1e-4)


def test_top_p_of_one_is_the_soft_mixture():
    soft = adapted(top_k=None)(input_ids=ids()).logits
    dynamic = adapted(router="top-p", top_p=1.0, top_k=None, renormalise=False)(input_ids=ids()).logits
    torch.testing.assert_close(dynamic, soft, rtol=0, atol=0)


def test_without_an_update_the_net_is_the_base_s_and_below_it_by_the_gates_that_top_p_leaves_out():
    model = adapted(init_weights=True)
    torch.testing.assert_close(model(input_ids=ids()).logits, llama()(input_ids=ids()).logits, rtol=0, atol=1e-6)
    net = net_of(adapted(init_weights=True, router="top-p", top_k=None, renormalise=False))
    x = torch.randn(11, 16)
    base = net_of_base(llama())(x)
    shares = (net(x).detach() * base).sum(-1) / base.square().sum(-1)
    torch.testing.assert_close(net(x), shares[:, None] * base, rtol=1e-4, atol=1e-6)
    assert float(shares.min()) > 0.8 and float(shares.max()) <= 1 + 1e-6 and float(shares.min()) < 1


def net_of_base(model):
    return model.model.layers[0].mlp


def lora(model, rank=RANK):
    torch.manual_seed(0)
    config = LoraConfig(r=rank, lora_alpha=ALPHA * rank // RANK, target_modules=[*NETS, *ATTENTION], lora_dropout=0.0)
    made = get_peft_model(llama(), config).eval()
    for block, layer in smoe_layers(model).items():
        theirs = made.base_model.model.get_submodule(block)
        theirs.lora_A["default"].weight.data.copy_(layer.smoe_A["default"][:RANK])
        theirs.lora_B["default"].weight.data.copy_(layer.smoe_B["default"][:, :RANK])
    return made


def test_one_expert_is_lora_on_all_seven_projections():
    model = adapted(num_experts=1)
    torch.testing.assert_close(model(input_ids=ids()).logits, lora(model)(input_ids=ids()).logits, rtol=1e-5, atol=1e-5)


def test_equal_experts_are_lora():
    model = adapted()
    for layer in smoe_layers(model).values():
        if layer.experts["default"] > 1:
            a, b = layer.smoe_A["default"].data, layer.smoe_B["default"].data
            a[: EXPERTS * RANK] = a[:RANK].repeat(EXPERTS, 1)
            b.copy_(b[:, :RANK].repeat(1, EXPERTS))
    torch.testing.assert_close(model(input_ids=ids()).logits, lora(model)(input_ids=ids()).logits, rtol=1e-5, atol=1e-5)


def test_there_is_one_decision_for_each_net_and_no_product_of_the_base_is_made_twice():
    model = adapted()
    calls = []
    for block, layer in smoe_layers(model).items():
        layer.base_layer.register_forward_hook(lambda *told, block=block: calls.append(block))
    with record_routing(model) as report:
        model(input_ids=ids())
    assert [b.rsplit(".", 1)[-1] for b in report.blocks] == ["gate_proj"] * 2
    assert len(calls) == len(set(calls)) == 14
    with torch.no_grad():
        plain = model(input_ids=ids()).logits
        with changed_routing(model, "uniform"):
            changed = model(input_ids=ids()).logits
        for layer in smoe_layers(model).values():
            if layer.block.endswith("gate_proj"):
                layer.smoe_A["default"].data[EXPERTS * RANK :] = 0
                layer.configs["default"].top_k = None
        torch.testing.assert_close(model(input_ids=ids()).logits, changed, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(plain, changed)


def test_it_saves_loads_copies_is_switched_off_and_unloads(tmp_path):
    model = adapted()
    said = model(input_ids=ids()).logits
    model.save_pretrained(tmp_path)
    for other in (PeftModel.from_pretrained(llama(), tmp_path).eval(), copy.deepcopy(model)):
        torch.testing.assert_close(other(input_ids=ids()).logits, said)
        for p in other.parameters():
            p.data.add_(0.01)
    torch.testing.assert_close(model(input_ids=ids()).logits, said)  # a copy is one of its own
    base = llama()(input_ids=ids()).logits
    with model.disable_adapter():
        torch.testing.assert_close(model(input_ids=ids()).logits, base)
    with pytest.raises(ValueError, match="cannot be merged"):
        model.merge_and_unload()
    torch.testing.assert_close(model.unload()(input_ids=ids()).logits, base)


def test_the_balance_loss_pools_the_routers_of_all_nets():
    model = adapted(balance_loss=0.5, balance_reduction="pool").train()
    model(input_ids=ids())
    pooled = model.base_model.take_balance_loss()
    assert float(pooled) == pytest.approx(0.5 * 2, rel=0.2) and pooled.requires_grad  # f sums to k = 2, nearly even


def test_a_net_that_lacks_a_projection_is_refused():
    with pytest.raises(ValueError, match="equally many experts and act_fn, found 2 projections"):
        get_peft_model(llama(), SMoEConfig(target_modules=["gate_proj", "up_proj"], feed_forward=True))
