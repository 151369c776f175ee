"""What holds for every contestant that the folder offers, also for one that is added tomorrow."""

from __future__ import annotations

import dataclasses
import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import set_seed
from contestants import BUILT_IN
from peft import PeftModel
from safetensors.torch import load_file

from baselines.experts import ExpertMethod
from baselines.importance import importances
from baselines.importance.mola import SHAPES
from baselines.methods.capacity import Mola
from benchmarks import registry
from benchmarks.jobs.job import adapter_bytes
from benchmarks.jobs.train import checkpointed, train
from benchmarks.models import load as models
from benchmarks.plan.parse import MAIN, parse_methods
from smoe import block_shapes, routers
from smoe.gradients import innermost

STEPS = 12
# Where a contestant has such a field, a value that suits a hidden width of 32; everything else stays at its default.
SMALL = {"r": 4, "init_r": 6, "target_r": 4, "vote": 2}
# Settings that make another contestant of one, written as on the command line.
VARIANTS = [f"mola:shape={shape}" for shape in SHAPES if shape != Mola.shape]
VARIANTS += [f"{spender}:importance={name}" for spender in ("experts", "ranks") for name in importances()]
VARIANTS += [f"molora:router={name}" for name in routers() if name not in ("softmax", "task")]
VARIANTS += [
    "experts:importance=fim:router=uniform:rule=proportional",
    "gora:init=zero",
    "ranks:scale=equal",
    "guilomo:search_epochs=0",
    *(f"goat:{ablation}" for ablation in ("scale=paper", "scale=2", "init=kaiming", "residual=false")),
    "mixlora:routing=top-p",
]
VARIANTS += [f"ranks:rule={rule}" for rule in ("votes", "greedy", "layers")]


def build(asked):
    name, *settings = asked.split(":")
    cls = registry.methods()[name]
    small = {f.name: SMALL[f.name] for f in dataclasses.fields(cls) if f.name in SMALL}
    if "vote" in small and "r" in small:
        small["max_rank"] = 8  # as many components as the probe's batches have tokens for
    (method,) = parse_methods(":".join([name, *(f"{k}={v}" for k, v in small.items()), *settings]))
    return method


def logits(model, batch):
    with torch.no_grad():
        return model(**{k: v for k, v in batch.items() if k != "labels"}).logits


def attach(name, base, probe, seed=0):
    set_seed(seed)
    return build(name).attach(base, probe, STEPS)


def trained(name, model, batch, seed=0, steps=STEPS):
    return train(
        model, build(name), [([batch], 60)] * steps, total_steps=steps, learning_rate=1e-2, warmup_fraction=0.0,
        weight_decay=0.0, seed=seed,
    )[0]  # fmt: skip


@pytest.fixture(scope="module", params=[*registry.methods(), *VARIANTS])
def run(request, batch, probe, tmp_path_factory):
    """One contestant on its whole way: attached, trained on one batch again and again, saved."""
    name = request.param
    base, _ = models.load(models.TINY, "float32", "cpu")
    shapes, base_logits, originals = block_shapes(base), logits(base, batch), list(base.parameters())
    model = attach(name, base, probe)
    start_logits = logits(model, batch)
    values = [p.detach().clone() for p in originals]  # as attached: a contestant may move part of a weight out of it
    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    first_gradient: dict[str, int] = {}
    backwards = dict.fromkeys(trainable, 0)

    def note(key):
        def hook(p):
            backwards[key] += 1
            if p.grad.any():
                first_gradient.setdefault(key, backwards[key])

        return hook

    for key, p in trainable.items():
        p.register_post_accumulate_grad_hook(note(key))
    losses = trained(name, model, batch)
    facts = build(name).facts(model)  # before anything is saved, as a job does
    folder = tmp_path_factory.mktemp(name)
    saved_bytes = adapter_bytes(model)
    if saved_bytes is not None:
        model.save_pretrained(folder)
    return SimpleNamespace(
        name=name, model=model, shapes=shapes, base_logits=base_logits, start_logits=start_logits, values=values,
        originals=originals, trainable=trainable, first_gradient=first_gradient, losses=losses, facts=facts,
        saved_bytes=saved_bytes, folder=folder,
    )  # fmt: skip


# Those whose routers add to the loss, share what they compute, or move with the steps; the others are slow.
CHECKPOINTED = ("lora", "adalora", "lora-smoe", "molora", "mixlora", "loramoe", "ld-mole", "goat", "dmep", "full")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in CHECKPOINTED else [pytest.mark.slow])
        for name in (*BUILT_IN, *VARIANTS)
        if name != "frozen"
    ],
)
def test_losses_with_gradient_checkpointing_are_those_without(name, batch, probe):
    runs = []
    for context in (lambda model: nullcontext(), checkpointed):
        model = attach(name, models.load(models.TINY, "float32", "cpu")[0], probe)
        passes = []
        innermost(model).model.layers[0].self_attn.register_forward_hook(lambda *_, into=passes: into.append(1))
        with context(model):
            runs.append((trained(name, model, batch, steps=4), len(passes)))
        assert not innermost(model).model.layers[0].gradient_checkpointing
    (plain, once), (again, twice) = runs
    assert again == plain and plain[0] != plain[-1]
    assert (once, twice) == (4, 8)


def test_it_starts_equal_to_the_base_model(run):
    if build(run.name).starts_at_base:
        torch.testing.assert_close(run.start_logits, run.base_logits, rtol=0, atol=1e-6)
    else:  # it says so; how far it starts from there is for its own tests
        assert not torch.allclose(run.start_logits, run.base_logits, atol=1e-6)


def test_only_adapter_parameters_train(run):
    ours = {id(p) for p in run.originals}
    if run.saved_bytes is not None:
        assert run.trainable
        assert not [n for n, p in run.trainable.items() if id(p) in ours]


def test_every_trainable_parameter_gets_a_gradient_within_three_steps(run):
    late = {n: run.first_gradient.get(n) for n in run.trainable if run.first_gradient.get(n, STEPS) > 3}
    assert not late


def test_frozen_weights_are_bit_identical_after_training(run):
    kept = {id(p) for p in run.model.parameters()}
    frozen = [(p, v) for p, v in zip(run.originals, run.values, strict=True) if not p.requires_grad]
    assert all(id(p) in kept for p in run.originals)
    assert all(torch.equal(p, v) for p, v in frozen)
    assert len(frozen) == len(run.originals) or run.saved_bytes is None


def test_training_changes_what_the_model_says_and_only_then(run, batch):
    assert torch.equal(logits(run.model, batch), run.start_logits) == (not run.trainable)


def test_trainable_parameters_are_those_counted_by_hand(run):
    assert sum(p.numel() for p in run.trainable.values()) == by_hand(build(run.name), run)


def by_hand(method, run):
    """The formula of each kind from its matrices' shapes; a kind without one here is held to the file it saves."""
    formulas = {
        "frozen": lambda i, o: 0,
        **dict.fromkeys(("lora", "rslora", "pissa"), lambda i, o: method.r * (i + o)),
        "dora": lambda i, o: method.r * (i + o) + o,
        "adalora": lambda i, o: method.init_r * (i + o + 1),
    }
    if isinstance(method, ExpertMethod):
        total, widths = 0, set()
        if method.name == "guilomo":
            for block, ranks in run.facts["expert_ranks"].items():
                inputs, outputs = run.shapes[block]
                total += sum(ranks) * (inputs + outputs) + len(ranks) * inputs
            return total
        for block, experts in run.facts["experts"].items():
            inputs, outputs = run.shapes[block]
            rank = 1 if method.name == "smora" else method.r
            total += (min(experts, 1) if method.share_A else experts) * rank * inputs  # A
            trained_router = experts > 1 and method.router not in ("uniform", "frozen")
            if method.name == "mixlora":  # one router for a net
                trained_router = trained_router and block.endswith("gate_proj")
            total += experts * rank * outputs + (experts * inputs if trained_router else 0)  # B and the router
            total += inputs + 1 if method.router == "threshold" else 0  # v and b
            widths.add(inputs)
        return total + sum(128 * (w + 2) + 1 for w in widths if method.router == "sparsegen")
    if "ranks" in run.facts and method.name != "adalora":
        return sum(rank * sum(run.shapes[block]) for block, rank in run.facts["ranks"].items())
    if formula := formulas.get(method.name):
        return sum(formula(i, o) for i, o in run.shapes.values())
    saved = [t for file in run.folder.glob("*.safetensors") for t in load_file(file).values()]
    return sum(t.numel() for t in saved or run.originals)


def test_the_same_seed_gives_bit_equal_losses(run, tiny, batch, probe):
    assert trained(run.name, attach(run.name, tiny, probe), batch) == run.losses


def test_the_loss_falls_on_a_batch_that_is_repeated(run):
    if run.trainable:
        assert len(run.losses) == STEPS
        clearly = 0.98 if run.name.split(":")[0] in BUILT_IN else 1.0
        assert min(run.losses[-3:]) < clearly * run.losses[0]
    else:
        assert run.losses == []


def test_an_adapter_that_is_saved_and_loaded_gives_the_same_logits(run, tiny, batch):
    if run.saved_bytes is None:
        assert not hasattr(run.model, "peft_config")
        return
    loaded = PeftModel.from_pretrained(tiny, run.folder).eval()
    torch.testing.assert_close(logits(loaded, batch), logits(run.model, batch), rtol=0, atol=1e-6)
    assert 0 < run.saved_bytes <= 4 * sum(p.numel() for p in run.trainable.values()) + 100_000


def test_facts_are_json_and_count_no_more_than_is_trained(run):
    assert json.loads(json.dumps(run.facts)).keys() == run.facts.keys()
    count = sum(p.numel() for p in run.trainable.values())
    parameters = run.facts.get("parameters", {})
    assert set(parameters) <= {"experts", "router", "active_per_token", "after_pruning"}
    assert all(0 <= n <= count for n in parameters.values())
    if "experts" in parameters:
        assert parameters["experts"] + parameters["router"] == count


def test_every_contestant_of_this_repository_is_discovered():
    assert set(MAIN) <= set(BUILT_IN) <= set(registry.methods())
