"""Routers of rivals: closed forms, identities, and the layer against a loop over tokens and experts in float64."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from smoe import SMoEConfig, routers, smoe_layers
from smoe.routers import router
from smoe.routers.sigmoid import STEP
from smoe.routers.sparsegen import sparsegen, sparsity_of
from smoe.routers.state import Routed, RoutingState

INPUTS, OUTPUTS, EXPERTS, RANK, TOKENS = 12, 10, 5, 3, 40
SHUT = -math.inf


class One(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.Linear(INPUTS, OUTPUTS, bias=False)

    def forward(self, x):
        return self.block(x)


def layer(name, dtype=torch.float32, **options):
    torch.manual_seed(0)
    defaults = {"r": RANK, "lora_alpha": 6, "lora_dropout": 0.0, "num_experts": EXPERTS, "init_weights": False}
    config = SMoEConfig(router=name, target_modules=["block"], **(defaults | options))
    model = get_peft_model(One(), config)
    (made,) = smoe_layers(model).values()
    made.smoe_A["default"].data *= 4  # so that routers have opinions
    return model.to(dtype), made.to(dtype)


def inputs():
    return torch.randn(TOKENS, INPUTS, generator=torch.Generator().manual_seed(3))


def softmax(z):
    e = [math.exp(v - max(z)) for v in z]
    return [v / sum(e) for v in e]


def sigmoid(v):
    return 1 / (1 + math.exp(-v))


def threshold_gates(z, x, made, config):
    numbers = made.smoe_P["default"].detach()
    p = softmax(z[:-1])
    tau = (config.threshold if config.threshold is not None else 1 / len(p)) * sigmoid(z[-1] + float(numbers[0]))
    c = [max(v - tau, 0) for v in p]
    return [v / sum(c) for v in c]


def sparsegen_gates(z, x, made, config):
    """By bisection on tau, where the source sorts."""
    numbers, hidden = made.smoe_P["default"].detach().double(), config.router_hidden
    first = numbers[: hidden * INPUTS].view(hidden, INPUTS)
    b1, w2, b2 = numbers[hidden * INPUTS :].split([hidden, hidden, 1])
    out = sum(
        float(w) * max(float((row @ x + b).detach()), 0) for row, w, b in zip(first, w2, b1, strict=True)
    ) + float(b2)
    room = 1 - (0.99 + math.log(sigmoid(out)))
    low, high = min(z) - room - 1, max(z)
    for _ in range(200):
        tau = (low + high) / 2
        low, high = (tau, high) if sum(max(v - tau, 0) for v in z) > room else (low, tau)
    return [max(v - tau, 0) / room for v in z]


def sigmoid_gates(z, x, made, config):
    d = made.smoe_d["default"].tolist() if "default" in made.smoe_d else [0.0] * len(z)
    v = [sigmoid(a) + b for a, b in zip(z, d, strict=True)]
    kept = sorted(range(len(v)), key=lambda e: v[e], reverse=True)[: config.top_k or len(v)]
    return [v[e] / sum(v[k] for k in kept) if e in kept else 0.0 for e in range(len(v))]


def top_p_gates(z, x, made, config):
    p, kept, total = softmax(z), [], 0.0
    for e in sorted(range(len(p)), key=lambda e: p[e], reverse=True):
        kept.append(e)
        total += p[e]
        if total > config.top_p:
            break
    return [(p[e] / total if config.renormalise else p[e]) if e in kept else 0.0 for e in range(len(p))]


CASES = [
    ("threshold", {}, threshold_gates),
    ("threshold", {"threshold": 0.1}, threshold_gates),
    ("sparsegen", {"router_hidden": 7}, sparsegen_gates),
    ("sigmoid", {}, sigmoid_gates),
    ("sigmoid", {"top_k": 2}, sigmoid_gates),
    ("sigmoid-bias", {"top_k": 2}, sigmoid_gates),
    ("top-p", {}, top_p_gates),
    ("top-p", {"top_p": 0.6, "renormalise": False}, top_p_gates),
]


@pytest.mark.parametrize(("name", "options", "gates_of"), CASES)
def test_the_layer_is_the_loop_over_tokens_and_experts_of_its_equations(name, options, gates_of):
    model, made = layer(name, **options)
    if "default" in made.smoe_d:
        made.smoe_d["default"] = torch.linspace(-0.3, 0.3, EXPERTS)
    config, x = made.configs["default"], inputs()
    if "default" in made.smoe_P:
        made.smoe_P["default"].data += 0.3 * torch.randn(made.smoe_P["default"].shape)
    a, b = made.smoe_A["default"].double(), made.smoe_B["default"].double()
    weight = made.get_base_layer().weight.double()
    rows, router_rows = [], a[EXPERTS * RANK :]
    for token in x.double():
        gates = gates_of((router_rows @ token).tolist(), token, made, config)
        y = weight @ token
        for e, gate in enumerate(gates):
            columns = slice(e * RANK, (e + 1) * RANK)
            y = y + config.lora_alpha / RANK * gate * (b[:, columns] @ (a[columns] @ token))
        rows.append(y)
    torch.testing.assert_close(model(x).double(), torch.stack(rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["threshold", "sparsegen", "top-p"])
def test_some_tokens_use_fewer_experts_than_others(name):
    model, made = layer(name)
    if name == "sparsegen":
        made.smoe_P["default"].data[-1] = 1.0
    state = model.base_model.routing
    state.external = True
    state.start()
    model(inputs())
    used = (state.seen["block", "default"][0].gates > 0).sum(-1)
    assert used.min() >= 1 and len(set(used.tolist())) > 1


def test_a_threshold_of_nothing_is_the_soft_mixture():
    ours, made = layer("threshold", threshold=0.0)
    theirs, soft = layer("softmax")
    soft.smoe_A["default"].data.copy_(made.smoe_A["default"][:-1])
    torch.testing.assert_close(ours(inputs()), theirs(inputs()), rtol=1e-5, atol=1e-6)


def test_a_threshold_that_could_shut_every_expert_is_refused():
    with pytest.raises(ValueError, match=r"threshold must lie in \[0, 1/E\] = \[0, 0.25\]"):
        SMoEConfig(router="threshold", threshold=0.3, num_experts=4)


def test_top_p_one_is_the_soft_mixture_and_a_little_of_it_is_top_1():
    ours, _ = layer("top-p", top_p=1.0)
    theirs, _ = layer("softmax")
    torch.testing.assert_close(ours(inputs()), theirs(inputs()), rtol=0, atol=0)
    ours, _ = layer("top-p", top_p=1e-6)
    theirs, _ = layer("softmax", top_k=1)
    torch.testing.assert_close(ours(inputs()), theirs(inputs()))


def test_sparsegen_is_sparsemax_one_expert_and_uniform_at_its_ends():
    u = torch.randn(50, EXPERTS, dtype=torch.float64)
    ends = {0.0: None, 1 - 1e-9: "one", -1e9: "uniform"}
    for value, end in ends.items():
        p = sparsegen(u, torch.full((50, 1), value, dtype=torch.float64))
        torch.testing.assert_close(p.sum(-1), torch.ones(50, dtype=torch.float64))
        if end == "one":
            assert torch.equal(p > 0, u == u.max(-1, keepdim=True).values)
        elif end == "uniform":
            torch.testing.assert_close(p, torch.full_like(p, 1 / EXPERTS))
        else:  # the projection: by bisection
            low, high = u.min(-1, keepdim=True).values - 1, u.max(-1, keepdim=True).values
            for _ in range(100):
                tau = (low + high) / 2
                above = (u - tau).relu().sum(-1, keepdim=True) > 1
                low, high = torch.where(above, tau, low), torch.where(above, high, tau)
            torch.testing.assert_close(p, (u - tau).relu())


def test_sparsegen_uses_at_most_k_experts_exactly_where_the_sparsity_reaches_its_bound():
    u = torch.randn(200, EXPERTS, dtype=torch.float64)
    falling = u.sort(-1, descending=True).values
    for k in range(1, EXPERTS):
        bound = 1 - (falling[:, :k].sum(-1) - k * falling[:, k])
        for shift in (1e-6, -1e-6):
            sparsity = (bound + shift)[:, None]
            inside = sparsity[:, 0] < 1
            used = (sparsegen(u[inside], sparsity[inside]) > 0).sum(-1)
            assert bool((used <= k).all() if shift > 0 else (used > k).all())


def test_single_ranks_in_equal_use_are_lora():
    rank, alpha = 6, 12.0
    model, made = layer("sigmoid-bias", r=1, num_experts=rank, lora_alpha=alpha, top_k=rank)
    made.smoe_A["default"].data[rank:] = 0
    torch.manual_seed(0)
    lora = get_peft_model(One(), LoraConfig(r=rank, lora_alpha=alpha, target_modules=["block"], lora_dropout=0.0))
    theirs = lora.base_model.model.block
    theirs.base_layer.weight.data.copy_(made.get_base_layer().weight)
    theirs.lora_A["default"].weight.data.copy_(made.smoe_A["default"][:rank])
    theirs.lora_B["default"].weight.data.copy_(made.smoe_B["default"])
    torch.testing.assert_close(model(inputs()), lora(inputs()), rtol=1e-5, atol=1e-6)


def llama(name, **options):
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=258, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    base = LlamaForCausalLM(shape).requires_grad_(False)
    config = SMoEConfig(router=name, r=2, lora_dropout=0.0, init_weights=False, num_experts=4, **options)
    return get_peft_model(base, config)


def batch(model):
    ids = torch.randint(0, 256, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    return model(input_ids=ids, attention_mask=mask), mask


def test_the_bias_moves_once_a_step_towards_experts_that_real_tokens_use_less_whatever_is_recomputed():
    biases = []
    for checkpointed in (False, True):
        model = llama("sigmoid-bias", top_k=1).train()
        if checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        output, mask = batch(model)
        output.logits.sum().backward()
        used = {key: counts.clone() for key, counts in model.base_model.routing.used.items()}
        assert {int(counts.sum()) for counts in used.values()} == {int(mask.sum())}  # top-1, padding left out
        model.base_model.end_step()
        for block, made in smoe_layers(model).items():
            counts = used[block, "default"].double()
            expected = STEP * torch.sign(counts.mean() - counts)
            torch.testing.assert_close(made.smoe_d["default"].double(), expected, rtol=1e-5, atol=0)
        model.base_model.end_step()  # no pass since: nothing moves
        biases.append(torch.stack([made.smoe_d["default"] for made in smoe_layers(model).values()]))
        model.eval()
        batch(model)
        assert not model.base_model.routing.used
    assert torch.equal(*biases) and bool(biases[0].any())


def test_the_shared_network_runs_once_for_each_distinct_input(monkeypatch):
    calls = []
    module = __import__("smoe.routers.sparsegen", fromlist=["sparsity_of"])
    monkeypatch.setattr(module, "sparsity_of", lambda x, *rest: calls.append(x.shape) or sparsity_of(x, *rest))
    model = llama("sparsegen").train()
    output, _ = batch(model)
    assert len(calls) == 2 * 4  # two layers: q k v together, o, gate up together, down
    output.logits.sum().backward()
    held = [made for made in smoe_layers(model).values() if "default" in made.smoe_P]
    assert {made.in_features for made in held} == {32, 64} and len(held) == 2
    assert all(bool(made.smoe_P["default"].grad.any()) for made in held)
    copied = copy.deepcopy(model)
    torch.testing.assert_close(batch(copied)[0].logits, output.logits)


def test_a_pass_leaves_no_input_alive():
    state, x = RoutingState(), torch.randn(2, 3)
    value = state.once(x, "a", lambda: torch.ones(2))
    assert state.once(x, "a", lambda: None) is value and state.once(x, "b", lambda: 5) == 5
    del x
    assert state._last is None


def switch(probabilities, used, slots):
    """E sum_e f_e P_e, f summing to `slots`, by counting."""
    experts, share = probabilities.shape[1], used.sum(0) / used.sum() * slots
    return experts * sum(float(f) * float(p) for f, p in zip(share, probabilities.mean(0), strict=True))


def test_the_balance_losses_are_those_of_their_sources():
    p = torch.softmax(torch.randn(30, EXPERTS, dtype=torch.float64), -1)
    margins = p - 0.15
    config = SMoEConfig(router="threshold", num_experts=EXPERTS)
    ours = router("threshold").balance(Routed(p, margins.relu(), margins), config, None)
    share = (margins >= 0).double().mean(0)
    assert float(ours) == pytest.approx(EXPERTS * float((share * margins.mean(0)).sum()))
    gates = (p > 0.2) * p
    active = router("sparsegen").balance(Routed(p, gates), config, None)
    assert float(active) == pytest.approx(switch(p, (gates > 0).double(), 1))


def test_the_reductions_sum_over_routers_or_pool_their_tokens():
    from smoe.routers.balance import balance_loss, reduced

    passes = [Routed(torch.softmax(torch.randn(2, 7, 4), -1), torch.ones(2, 7, 4)) for _ in range(3)]
    mask = torch.ones(2, 7)
    mask[1, :3] = 0

    def one(routed, m):
        return balance_loss(routed.probabilities, 2, m)

    single = [float(one(routed, mask)) for routed in passes]
    assert float(reduced(one, passes, "mean", 2, mask)) == pytest.approx(sum(single) / 3)
    assert float(reduced(one, passes, "sum", 2, mask)) == pytest.approx(2 * sum(single))
    together = torch.cat([routed.probabilities[mask.bool()] for routed in passes])
    used = torch.zeros_like(together).scatter(1, together.topk(2).indices, 1.0)
    assert float(reduced(one, passes, "pool", 2, mask)) == pytest.approx(switch(together, used, 2), rel=1e-5)


def test_shut_experts_have_gates_of_exactly_0_and_the_rest_is_the_model_rebuilt_without_them():
    model, made = layer("pruned", top_k=2)
    kept = [0, 2, 3]
    made.smoe_d["default"] = torch.tensor([0 if e in kept else SHUT for e in range(EXPERTS)])
    rebuilt, small = layer("softmax", top_k=2, num_experts=len(kept))
    columns = [e * RANK + i for e in kept for i in range(RANK)]
    rows = [*columns, *(EXPERTS * RANK + e for e in kept)]
    small.smoe_A["default"].data.copy_(made.smoe_A["default"][rows])
    small.smoe_B["default"].data.copy_(made.smoe_B["default"][:, columns])
    small.get_base_layer().weight.data.copy_(made.get_base_layer().weight)
    state = model.base_model.routing
    state.external = True
    state.start()
    torch.testing.assert_close(model(inputs()), rebuilt(inputs()), rtol=1e-5, atol=1e-6)
    gates = state.seen["block", "default"][0].gates
    assert bool((gates[:, [1, 4]] == 0).all()) and bool((gates[:, kept] > 0).any(0).all())


@pytest.mark.parametrize("name", sorted(n for n, cls in routers().items() if cls.sparse))
def test_routers_whose_tokens_choose_how_many_refuse_top_k(name):
    with pytest.raises(ValueError, match=f"router {name} lets every token choose how many it uses: leave top_k 2 out"):
        SMoEConfig(router=name, top_k=2)


@pytest.mark.parametrize("unequal", [(1, 4, 2), (3,)])
def test_experts_of_unequal_ranks_are_the_loop_with_the_scale_alpha_over_their_own_rank(unequal):
    ranks = list(unequal)
    model, made = layer("softmax", num_experts=len(ranks), expert_ranks={"block": ranks})
    x, a, b = inputs(), made.smoe_A["default"].double(), made.smoe_B["default"].double()
    rows = []
    for token in x.double():
        y, start = made.get_base_layer().weight.double() @ token, 0
        gates = softmax((a[sum(ranks) :] @ token).tolist()) if len(ranks) > 1 else [1.0]
        for gate, rank in zip(gates, ranks, strict=True):
            part = slice(start, start + rank)
            y, start = y + 6 / rank * gate * (b[:, part] @ (a[part] @ token)), start + rank
        rows.append(y)
    torch.testing.assert_close(model(x).double(), torch.stack(rows), rtol=1e-5, atol=1e-5)
    if len(ranks) == 1:
        torch.testing.assert_close(model.merge_and_unload()(x).double(), torch.stack(rows), rtol=1e-5, atol=1e-5)


def test_one_input_in_two_passes_is_routed_by_the_weights_of_each():
    model, made = layer("sparsegen")
    x = inputs()
    with torch.no_grad():
        model(x)
    first = model(x)
    first.sum().backward()
    assert bool(made.smoe_P["default"].grad.any())
    made.smoe_P["default"].data[-1] += 3
    second = model(x)
    second.sum().backward()
    assert not torch.allclose(first, second)
