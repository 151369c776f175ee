"""What is said of a training step: its bytes part by part, its matrix products, and when compiling pays."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.models.load import TINY
from benchmarks.models.load import load as load_model
from benchmarks.speed.setting import Setting, contestant, whole_steps
from benchmarks.speed.step import compiled, ledger, parts, roofline
from benchmarks.speed.step.ledger import Ledger
from benchmarks.speed.step.products import Operand, Products, attention_operations

TOY = Setting(model=TINY, dtype="float32", width=32, tokens=16, effort=0.05)
ROWS, IN, HIDDEN, OUT = 5, 8, 16, 4


def test_the_ledger_of_two_layers_is_that_of_a_hand_count():
    model = nn.Sequential(nn.Linear(IN, HIDDEN, bias=False), nn.Tanh(), nn.Linear(HIDDEN, OUT, bias=False))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x = torch.randn(ROWS, IN)
    ear = Ledger(model, vocabulary=99)
    with ear.listening():
        for _ in range(3):
            model(x).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            ear.end_step()
    weights = 4 * (IN * HIDDEN + HIDDEN * OUT)
    # Most is alive in tanh's own backward pass, the second layer's gradient being there already: the input and tanh's
    # output were kept, and there are the gradients of that output, of tanh's input, of the sum, and the sum.
    expected = dict.fromkeys(ledger.PARTS, 0) | {
        ledger.WEIGHTS: weights,
        ledger.OPTIMIZER: weights,
        ledger.GRADIENTS: 4 * HIDDEN * OUT,
        ledger.KEPT: 4 * ROWS * (IN + HIDDEN),
        ledger.TEMPORARY: 4 * (2 * ROWS * HIDDEN + 2),
    }
    assert ear.peak() == expected and sum(expected.values()) == max(alive_over_time(ear))


def alive_over_time(ear):
    """Sum what is alive at every birth, entry by entry."""
    times = {entry.born for entry in ear._entries}
    return [sum(e.size for e in ear._entries if e.born <= t and (e.died is None or e.died > t)) for t in times]


def test_every_part_is_told_by_what_made_it():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(8, 99, bias=False)
            self.memory = []

        def forward(self, x):
            scores = x[:, None] @ x[:, None].mT
            mixed = (scores.softmax(-1, dtype=torch.float32).to(x.dtype) @ x[:, None])[:, 0]
            return self.out(mixed.float().tanh())

    model = Model()
    x = torch.randn(2, 6, 8, dtype=torch.bfloat16, requires_grad=True)
    ear = Ledger(model, vocabulary=99)
    with ear.listening():
        loss = model(x).logsumexp(-1).sum()
        found = ear._parts(ear._clock)
        loss.backward()
    assert found[ledger.ATTENTION] == 2 * 6 * 6 * (4 + 2)  # float32 for softmax's gradient, bfloat16 for the product's
    assert found[ledger.LOGITS] == 4 * 2 * 6 * 99
    assert found[ledger.GRADIENTS] == 0 and ear._parts(ear._clock)[ledger.GRADIENTS] == 4 * 8 * 99
    after = ear._parts(ear._clock)
    assert after[ledger.ATTENTION] == 0 and after[ledger.KEPT] == x.nbytes  # which is the caller's


def test_a_float32_copy_that_is_kept_is_told_from_other_activations():
    model = nn.Linear(8, 8, bias=False)
    x = torch.randn(3, 8, dtype=torch.bfloat16)
    ear = Ledger(model, vocabulary=99)
    with ear.listening():
        hidden = model(x.float()).tanh()
        found = ear._parts(ear._clock)
    assert (found[ledger.CASTS], found[ledger.KEPT]) == (3 * 8 * 4, 3 * 8 * 4) and hidden.requires_grad


@pytest.mark.parametrize("name", ["lora", "lora-smoe", "adalora"])
def test_the_parts_of_a_step_add_up_to_what_is_alive_at_its_peak(name):
    method = contestant(name, TOY.experts)
    model = method.attach(load_model(TINY, "float32", "cpu")[0], {}, parts.PLANNED)
    ear = Ledger(model, vocabulary=258)
    with ear.listening():
        whole_steps(model, method, [TOY.heaviest_step] * 2, progress=ear.end_step)
    peak = ear.peak()
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    assert sum(peak.values()) == max(alive_over_time(ear))
    assert peak[ledger.WEIGHTS] == sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    assert 2 * trained <= peak[ledger.OPTIMIZER] <= 2 * trained + 4 * len(list(model.parameters()))
    assert 0 < peak[ledger.GRADIENTS] <= trained
    # AdaLoRA's importances and their two averages, of every weight it trains
    assert (peak[ledger.LASTING] >= 3 * trained) == (name == "adalora")


def test_the_account_of_a_process_adds_up_to_its_peak():
    told = {"peak": 1000, parts.BEFORE: 300, **dict.fromkeys(ledger.PARTS, 50)}
    account = parts.accounted(told)
    assert account[parts.GAPS] == 1000 - 300 - 50 * len(ledger.PARTS) and sum(account.values()) == 1000
    table = parts.as_table({"lora": {name: 10**6 * n for name, n in account.items()}})
    *rows, total = [int(cell) for _, cell in table.rows]
    assert sum(rows) == total == 1000


@pytest.mark.parametrize("name", ["training molora", "training adalora", "evaluation frozen"])
def test_products_are_counted_as_torch_counts_them_and_made_again_as_often(name):
    work = roofline.works_of(TOY)[name]
    with Products() as products:
        work()
    with FlopCounterMode(display=False) as counter:
        work()
    fused = sum(p.operations for p in products.calls if "scaled_dot_product" in str(p.operator))
    assert products.operations - fused == counter.get_total_flops() > 0
    assert (fused > 0) == (name == "evaluation frozen")  # torch counts it on a GPU alone
    again = products.again("cpu")
    head = (work.args[1] if name.startswith("evaluation") else work.args[0]).get_output_embeddings().weight.T
    with Products() as repeated:
        again()
    assert repeated.calls == products.calls
    own = [o.weight() for p in products.calls for o in p.arguments if isinstance(o, Operand) and o.weight() is not None]
    assert own and any(torch.equal(weight, head) for weight in own)  # the model's own weights, which live on


def test_operations_of_attention_are_those_of_its_two_products():
    q, k, v = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 7, 8), torch.randn(2, 3, 7, 4)
    with FlopCounterMode(display=False) as counter:
        (q @ k.mT) @ v
    assert attention_operations(q, k, v) == counter.get_total_flops()


def test_padding_is_what_no_document_has():
    training, evaluation = roofline.padding_rows(TOY)
    masks = torch.cat([b["attention_mask"].flatten() for micro_batches, _ in TOY.default_steps for b in micro_batches])
    assert training.value == pytest.approx(1 - float(masks.float().mean())) and 0 < evaluation.value < 1


def test_the_causes_of_a_work_are_all_of_its_time():
    x = torch.randn(300, 300)
    taken = roofline.causes(lambda: (x @ x).softmax(-1).clone().tanh(), "cpu")
    assert sum(taken.values()) == pytest.approx(1) and set(taken) == set(roofline.CAUSES)
    assert all(taken[cause] > 0 for cause in roofline.CAUSES[:4])


@pytest.mark.parametrize(("compiling", "plain", "whole"), [(8.0, 3.0, (8 + 4 * 2) / 12), (8.0, 1.0, 16 / 4)])
def test_compiling_pays_where_a_run_is_shorter_with_it(compiling, plain, whole):
    step = {"plain": plain, "compiled": 2.0}
    _, run = compiled.rows_of("lora", [2 / plain], step, compiling, TOY)
    assert len(TOY.default_steps) == 4 and run.value == pytest.approx(whole)
    assert ("pays after 8 steps" if plain > 2 else "never pays") in run.detail and math.isfinite(run.low)
