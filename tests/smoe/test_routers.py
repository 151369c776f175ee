"""Every router of the folder keeps the contract; the controls are what they are called."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from smoe import (
    CHANGES,
    SMoEConfig,
    block_params,
    block_shapes,
    changed_routing,
    parameter_counts,
    record_routing,
    routers,
    smoe_layers,
    task_id,
)
from smoe.routers import shared_params

NAMES = ("a", "b", "c")
IDS = [task_id(name) for name in NAMES]
EXPERTS = 3
ALL = sorted(routers())


def llama() -> LlamaForCausalLM:
    """Make a tiny random model, the same at every call."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=258, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def config(router, **options):
    defaults = {"r": 2, "lora_alpha": 8, "lora_dropout": 0.0, "num_experts": EXPERTS, "init_weights": False}
    tasks = IDS if routers()[router].told_tasks else []
    return SMoEConfig(router=router, router_tasks=tasks, task_type="CAUSAL_LM", **(defaults | options))


def adapted(router, **options):
    base = llama()
    torch.manual_seed(0)
    return get_peft_model(base, config(router, **options))


def tokens(rows=3):
    return torch.randint(0, 256, (rows, 9), generator=torch.Generator().manual_seed(1))


def told(model, *names):
    model.base_model.enter_tasks(torch.tensor([task_id(name) for name in names]))
    return model


def loss_of(model, ids):
    return model(input_ids=ids, labels=ids).loss


def fitted(model, steps=3):
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.1)
    for _ in range(steps):
        loss_of(told(model, *NAMES), tokens()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@pytest.mark.parametrize("name", ALL)
def test_gates_are_weights_that_sum_to_one_and_only_parameters_that_exist_are_counted(name):
    model = told(adapted(name), *NAMES)
    with record_routing(model) as report:
        model(input_ids=tokens())
    assert len(report.blocks) == 14
    for block in report.blocks.values():
        assert sum(block.load) == pytest.approx(1, abs=1e-5) and min(block.load) >= 0
    counts, shapes = parameter_counts(model), block_shapes(llama())
    has_router = routers()[name].rows == "trained"
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == counts["experts"] + counts["router"]
    shared = shared_params(name, [inputs for inputs, _ in shapes.values()], 128)
    assert counts["experts"] + counts["router"] == shared + sum(
        block_params(shape, EXPERTS, 2, router=name) for shape in shapes.values()
    )
    assert (counts["router"] > 0) == has_router


@pytest.mark.parametrize("name", ALL)
def test_every_router_starts_from_the_same_experts_and_saves_and_loads(name, tmp_path):
    model, learned = adapted(name), adapted("softmax")
    for ours, theirs in zip(smoe_layers(model).values(), smoe_layers(learned).values(), strict=True):
        assert torch.equal(ours.smoe_A["default"][: EXPERTS * 2], theirs.smoe_A["default"][: EXPERTS * 2])
    fitted(model).save_pretrained(tmp_path)
    loaded = told(PeftModel.from_pretrained(llama(), tmp_path), *NAMES)
    with torch.no_grad():
        torch.testing.assert_close(loaded(input_ids=tokens()).logits, model(input_ids=tokens()).logits)


def test_a_router_that_there_is_not_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="unknown router 'unifrom'; did you mean uniform"):
        SMoEConfig(router="unifrom")


class One(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.Linear(12, 10, bias=False)

    def forward(self, x):
        return self.block(x)


@pytest.mark.parametrize("share_A", [False, True])
def test_the_uniform_router_is_one_lora_of_all_ranks_at_the_scale_over_the_experts(share_A):
    """CONTESTANTS 3.1: outputs to 1e-6 in fp32, gradients of A and B alike."""
    torch.manual_seed(0)
    base, rank, scale = One(), 3, 6.0
    options = {"r": rank, "lora_alpha": scale * rank, "lora_dropout": 0.0, "target_modules": ["block"]}
    ours = get_peft_model(
        copy.deepcopy(base), SMoEConfig(**options, num_experts=4, router="uniform", init_weights=False, share_A=share_A)
    )
    (layer,) = smoe_layers(ours).values()
    a, b = layer.smoe_A["default"], layer.smoe_B["default"]
    stacked = a.repeat(4, 1) if share_A else a
    theirs = get_peft_model(
        copy.deepcopy(base),
        LoraConfig(r=4 * rank, lora_alpha=scale / 4 * 4 * rank, target_modules=["block"], lora_dropout=0.0),
    )
    lora = theirs.base_model.model.block
    lora.lora_A["default"].weight.data.copy_(stacked)
    lora.lora_B["default"].weight.data.copy_(b)
    x = torch.randn(7, 12)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-6)
    (ours(x) ** 2).sum().backward()
    (theirs(x) ** 2).sum().backward()
    gradient = lora.lora_A["default"].weight.grad
    gradient = gradient.unflatten(0, (4, rank)).sum(0) if share_A else gradient
    torch.testing.assert_close(a.grad, gradient, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(b.grad, lora.lora_B["default"].weight.grad, rtol=1e-5, atol=1e-5)
    before = ours(x)
    torch.testing.assert_close(ours.merge_and_unload()(x), before, rtol=1e-5, atol=1e-5)


def test_the_frozen_router_is_bit_equal_after_training_and_still_tells_tokens_apart():
    model = adapted("frozen")
    drawn = {block: layer.smoe_R["default"].clone() for block, layer in smoe_layers(model).items()}
    fitted(model)
    for block, layer in smoe_layers(model).items():
        assert torch.equal(layer.smoe_R["default"], drawn[block])
    model.base_model.routing.start()
    model(input_ids=tokens())
    for passes in model.base_model.routing.seen.values():
        assert passes[0][1].reshape(-1, EXPERTS).std(0).min() > 0
    model.base_model.routing.stop()


def test_the_task_router_gives_an_expert_no_gradient_on_batches_of_other_tasks():
    model = adapted("task")
    loss_of(told(model, "a", "c", "c"), tokens()).backward()
    for layer in smoe_layers(model).values():
        for e, used in enumerate((True, False, True)):
            gradient = layer.smoe_B["default"].grad[:, 2 * e : 2 * e + 2]
            assert bool(gradient.any()) == used
            assert bool(layer.smoe_A["default"].grad[2 * e : 2 * e + 2].any()) == used


def test_the_task_router_answers_each_sample_by_its_own_task():
    model = adapted("task")
    ids = tokens(1)
    alone = [told(model, name)(input_ids=ids).logits for name in NAMES]
    together = told(model, *NAMES)(input_ids=ids.repeat(3, 1)).logits
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(alone[0], alone[1])


def test_the_task_router_refuses_what_it_was_not_told_and_blocks_with_too_few_experts():
    model = adapted("task")
    with pytest.raises(ValueError, match=r"router task was told no task for inputs \(3, 9\): call enter_tasks"):
        model(input_ids=tokens())
    with pytest.raises(ValueError, match="has no expert for task id"):
        told(model, "a", "b", "z")
    with pytest.raises(ValueError, match=r"an expert for each of 3 tasks, and up has 2: ask for 3"):
        SMoEConfig(router="task", router_tasks=IDS, expert_pattern={"up": 2})
    with pytest.raises(ValueError, match="each of 3 tasks, and num_experts has 2"):
        SMoEConfig(router="task", router_tasks=IDS, num_experts=2)


@pytest.mark.parametrize("options", [{"router": "uniform", "top_k": 2}, {"router": "frozen", "balance_loss": 0.1}])
def test_settings_that_mean_nothing_to_a_router_are_refused(options):
    with pytest.raises(ValueError, match=r"leave (top_k|balance_loss)"):
        SMoEConfig(**options)


@pytest.mark.parametrize("how", CHANGES)
def test_changed_routing_moves_logits_and_is_gone_afterwards(how):
    model = adapted("softmax")
    ids = tokens()
    with torch.no_grad():
        plain = model(input_ids=ids).logits
        with changed_routing(model, how):
            changed = model(input_ids=ids).logits
        assert not torch.allclose(plain, changed, atol=1e-5)
        assert torch.equal(model(input_ids=ids).logits, plain)


def test_shuffling_keeps_the_column_sums_of_the_gates_and_leaves_padding_where_it_is():
    model = adapted("softmax")
    ids = tokens()
    ids[0, 5:] = 257  # padding to the right, without a mask, as lm-eval passes it
    seen = {}
    for how in (None, "shuffled"):
        layer = next(iter(smoe_layers(model).values()))
        state = model.base_model.routing
        state.start()
        if how is None:
            model(input_ids=ids)
        else:
            with changed_routing(model, how, pad_token_ids=(257,), seed=3):
                model(input_ids=ids)
        seen[how] = state.seen[layer.block, "default"][0][1]
        state.stop()
    plain, moved = seen[None], seen["shuffled"]
    torch.testing.assert_close(plain.sum((0, 1)), moved.sum((0, 1)))
    assert torch.equal(plain[0, 5:], moved[0, 5:]) and not torch.equal(plain, moved)


def test_shuffling_a_router_of_zeros_changes_nothing():
    model = adapted("softmax", router_init=0.0)
    with torch.no_grad():
        plain = model(input_ids=tokens()).logits
        with changed_routing(model, "shuffled"):
            torch.testing.assert_close(model(input_ids=tokens()).logits, plain, rtol=0, atol=1e-6)


def test_an_unknown_change_is_refused():
    with pytest.raises(ValueError, match="'sorted' is not one of shuffled, uniform"), changed_routing(None, "sorted"):
        pass
