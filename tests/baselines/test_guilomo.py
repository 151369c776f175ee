"""GuiLoMo's two-level search: gradients by hand and by double backward, and what becomes of a search."""

from __future__ import annotations

import copy

import pytest
import torch
from accelerate.utils import set_seed

from baselines.bilevel import LEAK, SearchBlock, Space, TwoLevels, mixed_product, search, up_to
from baselines.methods.rivals.guilomo import GuiLoMo, params, scaled
from benchmarks.jobs.child import attempt
from benchmarks.models.load import TINY, skeleton
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from smoe import block_shapes, find_blocks


def batches_of(probe):
    return [batch for batches in probe.values() for batch in batches]


def test_masks_are_straight_through_with_a_gradient_for_the_entry_in_force_alone():
    scores = torch.tensor([0.3, 0.1, 0.9, 0.5], dtype=torch.float64, requires_grad=True)
    upstream = torch.tensor([1.0, -2.0, 3.0, 4.0], dtype=torch.float64)
    mask = up_to(scores, inside=0.5, above=-1e4)
    assert mask.tolist() == [0.5, 0.5, 0.5, -1e4]
    (gradient,) = torch.autograd.grad((mask * upstream).sum(), scores)
    s = torch.sigmoid(scores.detach())
    by_hand = sum(float(upstream[e] * s[e]) for e in range(3)) * float(s[2] * (1 - s[2]))
    assert gradient.tolist() == [0, 0, pytest.approx(by_hand), 0]
    (leaky,) = torch.autograd.grad((up_to(scores, leak=LEAK) * upstream).sum(), scores)
    assert float(leaky[3]) == pytest.approx(LEAK * 4 * float(s[3] * (1 - s[3])))
    assert up_to(torch.tensor([1.0, 0.0, 0.0]), least=1).tolist() == [1, 1, 0]


def test_the_mixed_product_is_that_of_double_backward():
    torch.manual_seed(0)
    x, first, second = torch.randn(20, 6), torch.randn(5, 6), torch.randn(3, 5)
    weights = [w.requires_grad_() for w in (first, second)]
    arch = [torch.rand(5, requires_grad=True)]

    def loss():
        return (torch.tanh(x @ weights[0].T) * torch.sigmoid(arch[0]) @ weights[1].T).square().mean()

    vector = [torch.randn_like(w) for w in weights]
    before = [w.detach().clone() for w in weights]
    ours = mixed_product(loss, weights, arch, vector)
    of_weights = torch.autograd.grad(loss(), weights, create_graph=True)
    inner = sum((g * v).sum() for g, v in zip(of_weights, vector, strict=True))
    (exact,) = torch.autograd.grad(inner, arch)
    assert float((ours[0] - exact).norm() / exact.norm()) < 1e-3
    assert all(torch.equal(w, b) for w, b in zip(weights, before, strict=True))


def test_experts_that_only_add_to_the_loss_are_given_up():
    """The target is no update at all, the first expert makes none, and the others all make the same one."""
    torch.manual_seed(0)
    space = Space(experts=4, r=2, top_k=4, learning_rate=1e-6, arch_rate=0.05, arch_decay=0.0)
    block = SearchBlock(6, 5, space, torch.device("cpu"))
    block.g.data = torch.tensor([0.05, 0.2, 0.3, 0.45])
    block.a.data.copy_(torch.randn(2, 6).repeat(4, 1))
    block.b.data.copy_(torch.randn(5, 2).repeat(1, 4))
    block.b.data[:, :2] = 0
    block.h.data.copy_(block.h[0].repeat(4, 1))
    x = torch.randn(40, 6)
    levels = TwoLevels([block], space, lambda batch: block(x).square().mean())
    assert len(block.ranks()) == 4
    seen = []
    for _ in range(12):
        levels.step({}, {})
        seen.append(len(block.ranks()))
    assert seen[0] == 4 and next(n for n in seen if n != 4) == 3  # falls to the next largest entry of the start


def test_a_step_takes_five_losses_and_leaves_the_weights_one_plain_step_on():
    torch.manual_seed(0)
    space = Space(experts=3, r=2, arch_rate=0.0, arch_decay=0.0)
    block = SearchBlock(6, 5, space, torch.device("cpu"))
    twin, calls = copy.deepcopy(block), []
    inputs = {"a": torch.randn(9, 6), "b": torch.randn(9, 6)}

    def loss(batch):
        calls.append(batch)
        return block(inputs[batch]).square().mean()

    levels = TwoLevels([block], space, loss)
    levels.step("a", "b")
    assert calls == ["a", "b", "a", "a", "a"]
    optimizer = torch.optim.AdamW([p for n, p in twin.named_parameters() if n not in "gh"], lr=space.learning_rate)
    twin(inputs["a"]).square().mean().backward()
    optimizer.step()
    for one, other in zip(block.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_without_a_rate_or_without_a_search_the_allocation_is_that_of_the_start(tiny, probe):
    weights = [p.detach().clone() for p in tiny.parameters()]
    found = {}
    for label, method in {
        "still": GuiLoMo(arch_lr=0.0),
        "none": GuiLoMo(search_epochs=0),
        "searched": GuiLoMo(arch_lr=0.5),
    }.items():
        set_seed(3)
        found[label] = method.allocate(tiny, probe)
    assert found["still"][0] == found["none"][0]
    assert found["still"][1]["expert_ranks"] == found["none"][1]["expert_ranks"]
    still, none, searched = (found[label][1]["search"] for label in ("still", "none", "searched"))
    assert (still["steps"], none["steps"], searched["steps"]) == (4, 0, 4)
    assert still["moved_experts"] == still["moved_ranks"] == 0 < searched["moved_experts"] + searched["moved_ranks"]
    assert searched["experts_at_start"] == dict(found["none"][0])
    assert found["searched"][1]["expert_ranks"] != found["none"][1]["expert_ranks"]
    for experts, facts in found.values():
        assert all(2 <= n <= 8 and len(facts["expert_ranks"][b]) == n for b, n in experts.items())
        assert all(1 <= r <= 8 for ranks in facts["expert_ranks"].values() for r in ranks)
    assert all(torch.equal(p, w) for p, w in zip(tiny.parameters(), weights, strict=True))
    assert all(not m._forward_hooks for m in find_blocks(tiny).values()) and not hasattr(tiny, "searched")


def test_a_search_on_training_batches_is_what_is_attached(tiny, probe):
    method = GuiLoMo(arch_lr=0.5)
    set_seed(5)
    method.search(tiny, iter(batches_of(probe)[:3]))  # the third has no partner
    expected = tiny.__dict__["searched"]
    model = method.attach(tiny, {}, 4)
    facts = method.facts(model)
    assert facts["expert_ranks"] == expected.ranks and facts["search"]["steps"] == 1
    assert facts["experts"] == {block: len(ranks) for block, ranks in expected.ranks.items()}


def test_two_seeds_search_from_two_starts(tiny, probe):
    starts = []
    for seed in (0, 1):
        set_seed(seed)
        starts.append(search(tiny, find_blocks(tiny), batches_of(probe)[:2], Space()).start)
    assert starts[0] != starts[1]


def test_ranks_are_scaled_to_a_size_and_keep_their_order():
    shapes = block_shapes(skeleton(TINY))
    set_seed(0)
    ranks = {b: torch.randint(1, 9, (int(torch.randint(2, 9, ())),)).tolist() for b in shapes}
    for factor in (0.8, 1.0, 3.3):
        target = round(factor * params(ranks, shapes))
        made = scaled(ranks, shapes, target)
        assert params(made, shapes) == pytest.approx(target, rel=0.02)
    large = scaled(ranks, shapes, 10 * params(ranks, shapes))
    for block, of_experts in ranks.items():
        pairs = sorted(zip(of_experts, large[block], strict=True))
        assert [r for _, r in pairs] == sorted(r for _, r in pairs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GuiLoMo(num_experts=1), "num_experts 1 leaves nothing to search; 2 or more"),
        (lambda: GuiLoMo().matched_experts(56, {}), "how many experts there are is what it looks for"),
        (lambda: GuiLoMo().matched(1000, block_shapes(skeleton(TINY))), "cannot be sure of 1,000 trainable parameters"),
    ],
)
def test_what_it_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_mask_s_rows_above_the_rank_count_almost_nothing():
    torch.manual_seed(0)
    block = SearchBlock(6, 5, Space(experts=2, r=3, top_k=2), torch.device("cpu"))
    block.h.data = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    x = torch.randn(4, 6)
    before = block(x).detach()
    with torch.no_grad():
        block.a[[1, 2, 5]] += 1.0  # above the ranks 1 and 2
    assert float((block(x).detach() - before).norm() / before.norm()) < 0.1
    assert block.ranks() == [1, 2]


def test_a_job_searches_on_its_training_documents_and_charges_it_to_the_allocation(monkeypatch):
    """Five tasks of four documents in batches of four: five batches, of which two pairs are a step each."""
    looked, plain = [], GuiLoMo.search

    def watched(self, model, batches):
        looked.append(self)
        plain(self, model, batches)

    monkeypatch.setattr(GuiLoMo, "search", watched)
    methods = "guilomo,guilomo:search_epochs=0"
    request = Request(
        model="tiny",
        dtype="float32",
        suite="nlu",
        train_documents=20,
        batch_size=4,
        micro_batch=4,
        limit=2,
        methods=methods,
    )
    records = [attempt(spec) for spec in resolve(request)]
    assert [r.status for r in records] == ["done"] * 2, [r.error for r in records]
    assert [r.facts["search"]["steps"] for r in records] == [2, 0] and len(looked) == 1
    assert records[0].costs["allocate"].wall_seconds > records[1].costs["allocate"].wall_seconds
    assert records[1].facts["search"]["experts_at_start"] == records[0].facts["search"]["experts_at_start"]
