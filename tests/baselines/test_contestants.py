"""What is particular to each contestant: its paper's numbers, its measure, its control, and its size under --match."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
import torch
from accelerate.utils import set_seed
from contestants import BUILT_IN
from transformers import AutoModelForCausalLM, LlamaConfig

from baselines.allocator import Allocator
from baselines.budgets import layers_of
from baselines.experts import ExpertMethod
from baselines.importance import alpha, eva, fim
from baselines.importance import sensitivity as sensitivity_file
from baselines.importance.alpha import tail_exponent
from baselines.importance.eva import explained, principal_components
from baselines.importance.mola import SHAPES
from baselines.methods import gora, ranks
from baselines.methods.capacity import AlphaLora, EvaExperts, Mola
from baselines.methods.controls import InverseExperts, RandomExperts
from baselines.methods.hydralora import HydraLora
from baselines.methods.lora import Lora
from baselines.methods.lora_smoe import LoraSMoE
from baselines.methods.molora import MoLora
from baselines.methods.pissa import Pissa
from baselines.ranks import Ranks
from benchmarks import registry
from benchmarks.plan import match
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from smoe import block_params, block_shapes, find_blocks
from smoe.sensitivity import Sensitivity

TASKS = tuple(f"task{i}" for i in range(8))
EMBEDDED = dict(hidden=576, mlp=1536, layers=30, heads=9, kv=3)  # SmolLM2-135M
WIDER = dict(hidden=896, mlp=4864, layers=24, heads=14, kv=2)  # Qwen2.5-0.5B
SMALL = dict(hidden=64, mlp=128, layers=6, heads=4, kv=2)  # large enough that one expert is under 2%
ADAPTERS = [name for name in BUILT_IN if name not in ("frozen", "full")]
MIXTURES = [n for n in ADAPTERS if issubclass(registry.methods()[n], ExpertMethod) and n != "lora-own"]
OWN_NUMBERS = ("mola", "smora", "loramoe", "mixlora", "goat", "dmep", "guilomo")  # of experts, as published


def explained_variance(model, blocks, probe, components):
    """{block: share of the variance that each leading component explains}."""
    return explained(principal_components(model, blocks, probe, components), probe).components


def llama(*, hidden, mlp, layers, heads, kv, device="meta"):
    config = LlamaConfig(
        vocab_size=258, hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, attn_implementation="eager").requires_grad_(False).eval()


def skewed(blocks, seed):
    """Scores that span several orders of magnitude, as sensitivities do."""
    rng = random.Random(seed)
    return {block: 10 ** rng.uniform(-6, 0) for block in blocks}


def quarters(experts):
    """Experts of a block in each layer, which are the same for all blocks of it."""
    layers = layers_of(dict.fromkeys(experts, (1, 1)))
    assert all(len({experts[b] for b in blocks}) == 1 for blocks in layers.values())
    return [experts[blocks[0]] for blocks in layers.values()]


# --- MoLA


@pytest.mark.parametrize(
    ("shape", "numbers"),
    [
        ("inverted-triangle", (2, 4, 6, 8)),
        ("triangle", (8, 6, 4, 2)),
        ("hourglass", (8, 2, 2, 8)),
        ("diamond", (2, 8, 8, 2)),
        ("rectangle", (5, 5, 5, 5)),
    ],
)
def test_mola_has_the_papers_numbers_in_32_layers(shape, numbers):
    experts, _ = Mola(shape=shape).allocate(llama(hidden=64, mlp=64, layers=32, heads=4, kv=4), {})
    assert quarters(experts) == [n for n in numbers for _ in range(8)]
    assert sum(experts.values()) == 160 * 7


def test_mola_spreads_30_layers_over_quarters_as_evenly_as_they_go():
    experts, _ = Mola().allocate(llama(**EMBEDDED), {})
    assert Counter(quarters(experts)) == {2: 8, 4: 7, 6: 8, 8: 7}


@pytest.mark.parametrize("shape", SHAPES)
def test_mola_keeps_its_shape_under_a_budget(shape):
    experts, _ = Mola(shape=shape, mean_experts=4.0).allocate(llama(**EMBEDDED), {})
    assert sum(experts.values()) == 840
    assert all(abs(n - SHAPES[shape][4 * i // 30] * 4 / 5) < 1.05 for i, n in enumerate(quarters(experts)))


def test_mola_refuses_an_unknown_shape_and_a_total_that_layers_cannot_share():
    with pytest.raises(ValueError, match=r"unknown shape of mola 'pyramid'; known: .*inverted-triangle"):
        Mola(shape="pyramid")
    with pytest.raises(ValueError, match="nearest possible: 833 or 840"):
        Mola(total_experts=839).allocate(llama(**EMBEDDED), {})


# --- AlphaLoRA


@pytest.mark.parametrize("a", [1.8, 2.5, 4.0])
def test_the_exponent_of_a_pure_power_law_is_found(a):
    uniform = torch.rand(4000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert tail_exponent(3.0 * (1 - uniform) ** (-1 / (a - 1))) == pytest.approx(a, rel=0.05)


def test_the_lower_cut_leaves_out_a_body_that_is_no_power_law():
    draw = torch.Generator().manual_seed(2)
    tail = (1 - torch.rand(2000, dtype=torch.float64, generator=draw)) ** (-1 / 1.5)
    body = torch.rand(2000, dtype=torch.float64, generator=draw)
    assert tail_exponent(torch.cat([body, tail])) == pytest.approx(2.5, rel=0.07)


def test_the_fit_equals_a_loop_over_cuts():
    values = (torch.rand(300, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) ** -0.7).sort().values
    found = []
    for i in range(len(values) - 1):
        tail = values[i:]
        k = len(tail)
        a = 1 + k / float((tail / tail[0]).log().sum())
        fitted = [1 - float(x / tail[0]) ** (1 - a) for x in tail]
        found.append((max(abs(j / k - f) for j, f in enumerate(fitted)), a))
    assert tail_exponent(values) == pytest.approx(min(found)[1], rel=1e-9)


@pytest.mark.parametrize(
    ("values", "a"),
    [
        ([(1 - (i + 0.5) / 200) ** -0.8 + 0.4 * math.sin(i) ** 2 for i in range(200)], 2.32984303257566),
        ([2 + math.cos(3 * i) if i % 3 else 5 * (1 - (i + 0.5) / 150) ** -0.4 for i in range(150)], 3.618844662931818),
    ],
)
def test_the_fit_equals_that_of_the_powerlaw_package(values, a):
    """`powerlaw.Fit(values, parameter_ranges={"alpha": [1, 100]}).power_law.alpha` of powerlaw 2.0.0."""
    assert tail_exponent(torch.tensor(values, dtype=torch.float64)) == pytest.approx(a, rel=1e-10)


def test_the_exponent_does_not_depend_on_the_scale_of_the_weights():
    weight = torch.randn(40, 60, generator=torch.Generator().manual_seed(4))
    fitted = [tail_exponent(alpha.eigenvalues(w)) for w in (weight, 0.01 * weight, weight.T)]
    assert fitted[1] == pytest.approx(fitted[0]) and fitted[2] == pytest.approx(fitted[0])


def test_alphalora_shares_the_total_by_the_mean_exponent_to_the_power_of_two_and_a_half(monkeypatch):
    monkeypatch.setattr(alpha, "eigenvalues", lambda weight: weight)
    monkeypatch.setattr(alpha, "tail_exponent", lambda weight: weight.item())
    model = llama(**EMBEDDED)
    for layer, blocks in layers_of(block_shapes(model)).items():
        for i, block in enumerate(blocks):
            model.get_submodule(block).weight = torch.nn.Parameter(torch.tensor(2 + layer / 10 + (i - 3) / 50))
    experts, facts = AlphaLora().allocate(model, {})
    weights = [(2 + layer / 10) ** 2.5 for layer in range(30)]
    quotas = [120 * w / sum(weights) for w in weights]
    assert sum(experts.values()) == 840
    assert all(abs(n - q) < 1 for n, q in zip(quarters(experts), quotas, strict=True))
    assert facts["exponents"]["model.layers.0.self_attn.q_proj"] == pytest.approx(2 - 3 / 50)


def test_alphalora_gives_fewer_experts_to_the_heavier_tail(tiny):
    heavy = torch.distributions.Pareto(1.0, 0.6)
    torch.manual_seed(0)
    for name, block in find_blocks(tiny).items():
        if ".layers.0." in name:
            block.weight.data = torch.linalg.qr(torch.randn_like(block.weight.T))[0].T * heavy.sample((1, 1))
            rows = min(block.weight.shape)
            u, _, v = torch.linalg.svd(block.weight, full_matrices=False)
            block.weight.data = u @ torch.diag(heavy.sample((rows,))) @ v
    experts, facts = AlphaLora().allocate(tiny, {})
    assert quarters(experts)[0] < quarters(experts)[1] and sum(experts.values()) == 56
    assert all(a > 1 for a in facts["exponents"].values())


# --- EVA


def test_the_explained_shares_of_all_components_sum_to_one_and_fall(tiny, probe):
    ratios = explained_variance(tiny, find_blocks(tiny), probe, components=24)
    for block, own in ratios.items():
        assert own == sorted(own, reverse=True) and 0 < sum(own) <= 1 + 1e-4, block
    whole = explained_variance(tiny, find_blocks(tiny, ["q_proj"]), {"task0": [_long()]}, components=32)
    assert all(sum(own) == pytest.approx(1, abs=1e-4) for own in whole.values())


def test_the_explained_shares_are_those_of_the_inputs_without_padding(tiny, batch):
    """To two percent: PEFT's decomposition is randomised."""
    block = "model.layers.1.mlp.down_proj"
    seen = []
    handle = tiny.get_submodule(block).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    ratios = explained_variance(tiny, find_blocks(tiny), {"task0": [batch]}, components=4)[block]
    handle.remove()
    x = seen[0][batch["attention_mask"].bool()].double()
    squares = torch.linalg.svdvals(x - x.mean(0)).square()
    assert ratios == pytest.approx((squares / squares.sum())[:4].tolist(), rel=0.02)


def test_blocks_with_one_input_have_one_measure_and_others_do_not(tiny, probe):
    ratios = explained_variance(tiny, find_blocks(tiny), probe, components=4)
    names = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj", "mlp.down_proj")
    q, k, o, down = (ratios[f"model.layers.0.{name}"] for name in names)
    assert q == k and q != o and o != down


def test_eva_hands_an_expert_to_each_of_the_largest_shares(tiny, probe):
    experts, facts = EvaExperts().allocate(tiny, probe)
    pool = sorted((ratio for own in facts["explained_variance"].values() for ratio in own), reverse=True)
    assert sum(experts.values()) == 56 and max(experts.values()) <= 8
    for block, own in facts["explained_variance"].items():
        assert all(ratio >= pool[55] for ratio in own[: experts[block]])
        assert all(ratio <= pool[55] for ratio in own[experts[block] :])


def test_eva_measures_the_same_under_every_seed_and_leaves_the_generator_alone(tiny, probe):
    results = []
    for seed in (0, 1):
        set_seed(seed)
        before = torch.get_rng_state()
        results.append(EvaExperts().allocate(tiny, probe))
        assert torch.equal(before, torch.get_rng_state())
    assert results[0] == results[1]


def test_eva_refuses_more_than_its_components_can_give():
    with pytest.raises(ValueError, match=r"mean_experts 9.0 is above max_experts 8"):
        EvaExperts(mean_experts=9.0)


# --- controls


def test_random_experts_keep_the_histogram_and_differ_by_seed(tiny, probe):
    own, _ = LoraSMoE().allocate(tiny, probe)
    dealt = []
    for seed in (0, 1, 2, 0):
        set_seed(seed)
        experts, facts = RandomExperts().allocate(tiny, probe)
        assert list(experts) == list(own) and sorted(experts.values()) == sorted(own.values())
        assert set(facts["sensitivity"]) == set(TASKS)
        dealt.append(experts)
    assert dealt[0] == dealt[3] and dealt[0] != dealt[1] != dealt[2] != dealt[0]


def test_an_allocation_seed_places_experts_alike_whatever_the_seed_of_the_run(monkeypatch):
    model, shapes, target = measured_at_random(monkeypatch, EMBEDDED)

    def placed(seed, allocation_seed):
        set_seed(seed)
        return RandomExperts(allocation_seed=allocation_seed).matched(target, shapes).allocate(model, {})[0]

    assert placed(0, 5) == placed(1, 5) != placed(1, 6)
    before = torch.random.get_rng_state()
    RandomExperts(allocation_seed=5).allocate(model, {})
    assert torch.equal(torch.random.get_rng_state(), before)  # training's draws are what they were


def test_random_experts_of_a_grouping_stay_inside_it(tiny, probe):
    experts, _ = RandomExperts(grouping="attention").allocate(tiny, probe)
    assert sum(experts.values()) == 32 and not any(n for b, n in experts.items() if "mlp" in b)


def test_random_experts_meet_a_budget_in_parameters_with_the_same_histogram(monkeypatch):
    model, shapes, target = measured_at_random(monkeypatch, EMBEDDED)
    own, _ = LoraSMoE().matched(target, shapes).allocate(model, {})
    set_seed(3)
    experts, _ = RandomExperts().matched(target, shapes).allocate(model, {})
    assert sorted(experts.values()) == sorted(own.values()) and experts != own
    assert sum(block_params(shapes[b], n, 8) for b, n in experts.items()) == pytest.approx(target, rel=0.005)


def test_inverse_experts_are_the_votes_that_lora_smoe_does_not_give(tiny, probe):
    own, facts = LoraSMoE().allocate(tiny, probe)
    inverse, measured = InverseExperts().allocate(tiny, probe)
    assert {b: own[b] + inverse[b] for b in own} == dict.fromkeys(own, len(TASKS))
    assert measured["sensitivity"] == facts["sensitivity"]  # what was measured is recorded as it is


# --- variants


@pytest.mark.parametrize("name", [n for n in MIXTURES if n not in OWN_NUMBERS])
def test_every_mixture_has_four_experts_a_block_by_default(name, tiny, probe):
    experts, _ = registry.methods()[name]().allocate(tiny, probe)
    inside = {"smoe-attention": "self_attn", "smoe-mlp": "mlp"}.get(name, "")
    assert sum(experts.values()) == 4 * sum(inside in b for b in experts)
    assert all(inside in b for b, n in experts.items() if n)


def test_hydralora_shares_one_a_over_the_experts_of_a_block(tiny):
    model = HydraLora(r=4).attach(tiny, {}, 1)
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters() if "layers.0.mlp.down_proj.smoe" in n}
    assert sorted(shapes.values()) == [(4 + 4, 64), (32, 16)]


def test_pissa_starts_at_the_principal_part_and_has_no_rank_above_a_blocks_narrow_side(tiny):
    original = {n: b.weight.clone() for n, b in find_blocks(tiny).items()}
    model = Pissa(r=24).attach(tiny, {}, 1)
    for name, weight in original.items():
        layer = model.base_model.model.get_submodule(name)
        b, a = layer.lora_B["default"].weight, layer.lora_A["default"].weight
        assert len(a) == min(24, *weight.shape)
        principal = layer.scaling["default"] * b @ a
        assert layer.scaling["default"] == pytest.approx(32 / 24)
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        assert torch.allclose(principal, u[:, : len(a)] @ torch.diag(s[: len(a)]) @ v[: len(a)], atol=1e-5)
        assert torch.allclose(layer.base_layer.weight + principal, weight, atol=1e-6)


# --- the same size for all


def measured_at_random(monkeypatch, sizes):
    """A model of these sizes without weights, whose every measure is drawn; its shapes; the target in parameters."""
    model = llama(**sizes)
    blocks = list(block_shapes(model))
    values = {task: {b: (v,) for b, v in skewed(blocks, task).items()} for task in TASKS}
    found = Sensitivity(values=values, samples=dict.fromkeys(TASKS, 1), mode="paper")
    for file in (sensitivity_file, fim):
        monkeypatch.setattr(file, "sensitivity", lambda *args, **kwargs: found)
    monkeypatch.setattr(gora, "joint_gradients", lambda *args: {})
    monkeypatch.setattr(gora, "union_mean", lambda *args: skewed(blocks, "gora"))
    rng = random.Random("measures")
    monkeypatch.setattr(alpha, "eigenvalues", lambda weight: weight)
    monkeypatch.setattr(alpha, "tail_exponent", lambda weight: rng.uniform(1.5, 6))
    monkeypatch.setattr(
        eva,
        "principal_components",
        lambda model, blocks, probe, n: {b: (sorted(skewed(range(n), b).values(), reverse=True), None) for b in blocks},
    )
    shapes = match.shapes_of(model)
    return model, shapes, match.target("params", shapes)


def size(method, model, shapes):
    if method.name == "guilomo":
        return method.trainable_params  # what is found is scaled to it, as `test_what_is_attached` shows
    if isinstance(method, ExpertMethod):
        experts, _ = method.allocate(model, {})
        if method.name == "dmep":
            return method.budget(shapes)
        if method.name == "mixlora":
            return method.params(shapes, method.num_experts, method.r)
        rank, shared = method.expert_rank, method.shared_params({b: shapes[b] for b, n in experts.items() if n > 1})
        parts = [block_params(shapes[b], n, rank, method.share_A, method.router) for b, n in experts.items()]
        return sum(parts) + shared
    if isinstance(method, Ranks):
        return sum(rank * sum(shapes[block]) for block, rank in method.allocate(model, {})[0].items())
    if isinstance(method, Lora):
        return sum(method.block_params(shape, method.r) for shape in shapes.values())
    return method.target_r * sum(i + o + 1 for i, o in shapes.values())


@pytest.mark.parametrize("sizes", [EMBEDDED, WIDER], ids=["smollm2-135m", "qwen2.5-0.5b"])
@pytest.mark.parametrize("name", ADAPTERS)
def test_every_adapter_method_can_be_matched_within_two_percent(name, sizes, monkeypatch):
    model, shapes, target = measured_at_random(monkeypatch, sizes)
    (method,) = match.sized([registry.methods()[name]()], "params", shapes)
    assert size(method, model, shapes) == pytest.approx(target, rel=0.02)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_mola_can_be_matched(shape, monkeypatch):
    model, shapes, target = measured_at_random(monkeypatch, EMBEDDED)
    assert size(Mola(shape=shape).matched(target, shapes), model, shapes) == pytest.approx(target, rel=0.02)
    assert sum(Mola(shape=shape).matched_experts(840, shapes).allocate(model, {})[0].values()) == 840


@pytest.mark.parametrize("name", ADAPTERS)
def test_what_is_attached_has_the_size_that_was_planned(name, probe):
    model = llama(**SMALL, device="cpu")
    shapes = match.shapes_of(model)
    (method,) = match.sized([registry.methods()[name]()], "params", shapes)
    planned = None if isinstance(method, Allocator) or name == "guilomo" else size(method, model, shapes)
    if name == "eva-lora":  # looks at twice as many components as it has ranks, and a batch needs a token for each
        probe = {task: [_long()] for task in TASKS}
    set_seed(0)
    facts = match.achieved("params", method, method.attach(model, probe, 20), shapes)["match"]
    assert abs(facts["residual"]) <= 0.02 and facts["target_params"] == match.target("params", shapes)
    assert planned in (None, facts["trainable_params"])


@pytest.mark.parametrize("name", [n for n in MIXTURES if n not in ("smoe-mlp", "smora", "loramoe", "dmep", "guilomo")])
def test_every_mixture_can_have_the_same_number_of_experts(name, monkeypatch):
    model, shapes, _ = measured_at_random(monkeypatch, EMBEDDED)
    (method,) = match.sized([registry.methods()[name]()], "experts", shapes)
    experts, _ = method.allocate(model, {})
    assert sum(experts.values()) == 840


def test_mixtures_that_cannot_have_as_many_experts_say_so():
    shapes = match.shapes_of(llama(**EMBEDDED))
    with pytest.raises(ValueError, match="smora: its experts are single ranks: --match experts means nothing"):
        match.sized([registry.methods()["smora"]()], "experts", shapes)
    with pytest.raises(ValueError, match="840 experts are no whole number for each of 90 blocks"):
        match.sized([registry.methods()["loramoe"]()], "experts", shapes)


def test_smoe_mlp_refuses_more_experts_than_its_blocks_can_be_voted(monkeypatch):
    model, shapes, _ = measured_at_random(monkeypatch, EMBEDDED)
    (method,) = match.sized([registry.methods()["smoe-mlp"]()], "experts", shapes)
    with pytest.raises(ValueError, match=r"840 experts are impossible .* nearest possible: total 720"):
        method.check(model, TASKS, 20)


def test_methods_without_an_adapter_are_left_alone():
    shapes = match.shapes_of(llama(**EMBEDDED))
    for name in ("frozen", "full"):
        method = registry.methods()[name]()
        assert match.sized([method], "params", shapes) == [method] == match.sized([method], "experts", shapes)


def test_a_size_that_cannot_be_had_is_refused_with_the_nearest():
    shapes = match.shapes_of(llama(**SMALL))
    with pytest.raises(ValueError, match=r"lora cannot have 100 .* nearest possible: r=1 with"):
        Lora().matched(100, shapes)
    with pytest.raises(ValueError, match="nearest possible: 168 or 210"):
        MoLora().matched_experts(200, shapes)


@pytest.mark.parametrize("name", ["lora-smoe", "alphalora", "random-experts", "mola"])
def test_a_budget_of_ones_own_and_a_matched_one_are_not_taken_together(name):
    shapes = match.shapes_of(llama(**EMBEDDED))
    for kind in ("params", "experts"):
        with pytest.raises(ValueError, match=f"{name}: --match sets the budget; leave it out, or mean_experts=3"):
            match.sized([registry.methods()[name](mean_experts=3)], kind, shapes)


def test_a_job_refuses_a_model_that_is_too_far_off(tiny):
    shapes = match.shapes_of(tiny)
    method = MoLora(num_experts=5)
    with pytest.raises(ValueError, match=r"molora has 43,520 trainable parameters, \+25.0% off the target of 34,816"):
        match.achieved("params", method, method.attach(tiny, {}, 1), shapes)


def test_a_plan_says_what_was_matched_and_with_which_sizes():
    words, methods = ("none", "params", "experts"), "frozen,lora,molora"
    asked = {word: resolve(Request(model="tiny", methods=methods, match=word)) for word in words}
    assert [s.hyperparameters.get("r") for s in asked["params"]] == [None, 34, 8]
    assert [s.hyperparameters.get("r") for s in asked["none"]] == [None, 32, 8]
    assert all(s.match == word for word, specs in asked.items() for s in specs)
    assert len({s.key for specs in asked.values() for s in specs}) == 9
    with pytest.raises(ValueError, match="unknown match 'parms'; did you mean params"):
        resolve(Request(model="tiny", match="parms"))


def test_two_entries_that_become_one_are_refused():
    shapes = match.shapes_of(llama(**EMBEDDED))
    with pytest.raises(ValueError, match="become the same"):
        match.sized([MoLora(num_experts=4), MoLora(num_experts=5)], "params", shapes)


def _long():
    ids = torch.randint(0, 256, (2, 100), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


def test_eva_lora_decomposes_its_inputs_once(tiny, probe, monkeypatch):
    calls = []
    once = ranks.principal_components

    def counted(*arguments):
        calls.append(arguments)
        return once(*arguments)

    for file in (ranks, eva):
        monkeypatch.setattr(file, "principal_components", counted)
    blocks = set(find_blocks(tiny))
    method = ranks.EvaLora(r=2)
    model = method.attach(tiny, probe, 4)
    assert len(calls) == 1 and set(method.facts(model)["explained_variance"]) == blocks
