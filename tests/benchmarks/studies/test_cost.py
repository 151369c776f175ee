"""The cost suite: what its jobs measure, what is swept, and operations counted from shapes against torch's counter."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from contestants import BUILT_IN
from torch.utils.flop_counter import FlopCounterMode

from baselines.experts import ExpertMethod
from benchmarks import registry
from benchmarks.data import synthetic
from benchmarks.data.batches import collate
from benchmarks.data.examples import Example
from benchmarks.jobs.child import attempt
from benchmarks.jobs.train import answer_loss, answer_width
from benchmarks.models import load as models
from benchmarks.plan.parse import parse_methods
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from benchmarks.studies import cost
from reports.analysis.costs import arithmetic
from results import Record
from results.record import PHASES
from smoe import sensitivity

MODEL = "random:llama:width=64:layers=2"
COMMON = dict(train_documents=16, limit=1, seeds="0", dtype="float32", device="cpu")


def document(tokens, rows=1):
    ids = tuple(i % 250 for i in range(tokens))
    return collate([Example("a", ids, synthetic.ANSWER_TOKENS, False)] * rows, 0)


def operations(run):
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def record_of(method, **more):
    (spec,) = resolve(Request(suite="cost", model=MODEL, methods=method, max_length=24, **{**COMMON, **more}))
    record = attempt(spec)
    assert record.error is None, record.error
    return record


@pytest.mark.parametrize("tokens", [16, 80])
@pytest.mark.parametrize("method", ["lora:r=6:alpha=12", "molora:r=4:alpha=8:num_experts=3", "molora:num_experts=1"])
def test_operations_of_a_training_step_are_those_that_torch_counts(method, tokens):
    model, _ = models.load(MODEL, "float32", "cpu")
    shape = arithmetic.Shape(**synthetic.shape(model.config))
    (contestant,) = parse_methods(method)
    attached = contestant.attach(model, {}, 1).train()
    experts = getattr(contestant, "num_experts", 1)
    adapter = arithmetic.uniform(shape, contestant.r, experts)
    batch = document(tokens, rows=2)
    counted = operations(lambda: answer_loss(attached, batch, answer_width(batch)).backward())
    assert 2 * arithmetic.training(shape, adapter, tokens) == pytest.approx(counted, rel=0.01)
    assert adapter.params(shape) == models.count(attached, trainable=True)
    with torch.no_grad():
        counted = operations(lambda: answer_loss(attached, batch, answer_width(batch)))
    predicted = synthetic.ANSWER_TOKENS + 1
    assert 2 * arithmetic.forward(shape, adapter, tokens, predicted) == pytest.approx(counted, rel=0.01)


@pytest.mark.parametrize("tokens", [16, 80])  # Gram matrices, and the gradient itself
def test_operations_of_the_sensitivity_are_those_that_torch_counts(tokens):
    model, _ = models.load(MODEL, "float32", "cpu")
    shape = arithmetic.Shape(**synthetic.shape(model.config))
    counted = operations(lambda: sensitivity(model, {"a": [document(tokens, rows=2)]}))
    assert 2 * arithmetic.scoring(shape, tokens) == pytest.approx(counted, rel=0.01)


@pytest.mark.parametrize("tokens", [16, 80])
@pytest.mark.parametrize("method", ["lora:r=6:alpha=12", "molora:r=4:alpha=8:num_experts=3"])
def test_bytes_kept_for_the_backward_pass_are_those_that_autograd_saves(method, tokens):
    model, _ = models.load(MODEL, "float32", "cpu")
    shape = arithmetic.Shape(**synthetic.shape(model.config))
    (contestant,) = parse_methods(method)
    attached = contestant.attach(model, {}, 1).train()
    adapter = arithmetic.uniform(shape, contestant.r, getattr(contestant, "num_experts", 1))
    batch = document(tokens, rows=2)
    weights = {t.untyped_storage().data_ptr() for t in (*attached.parameters(), *attached.buffers())}
    saved = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = answer_loss(attached, batch, answer_width(batch))
    counted = sum(size for place, size in saved.items() if place not in weights)
    assert loss.requires_grad
    assert arithmetic.kept_bytes(shape, adapter, tokens, rows=2) == pytest.approx(counted, rel=0.03)


@pytest.fixture(scope="module")
def record():
    return record_of("lora-smoe:mean_experts=2")


def test_a_cost_record_has_every_phase_and_no_score(record):
    assert record.scores == {} and [p for p in record.costs if p in PHASES] == list(PHASES)
    assert record.costs["train"].tokens == 16 * 24 and record.costs["evaluate"].tokens == 8 * 24
    assert len(record.losses) == 2 and record.facts["shape"]["width"] == 64
    assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_the_arithmetic_reads_the_adapter_from_the_record(record):
    adapter, shape = arithmetic.adapter_of(record), arithmetic.shape_of(record)
    assert adapter.params(shape) == record.parameters.trainable
    assert arithmetic.static_bytes(shape, adapter, 4) > 4 * record.parameters.total
    assert arithmetic.expected_bytes(record) == 16 * adapter.params(shape) + arithmetic.kept_bytes(
        shape, adapter, 24, 8
    )
    found = arithmetic.expected(record)
    assert found["allocate"] == 8 * 8 * arithmetic.scoring(shape, 24) and found["train"] > found["evaluate"] > 0


def test_the_documents_are_the_same_every_time_and_differ_between_training_and_evaluation():
    (spec,) = resolve(Request(suite="cost", model=MODEL, methods="lora", **COMMON))
    first, again = (synthetic.data(spec, range(258), {})[1] for _ in range(2))
    assert first == again and len({e.ids for found in first.values() for e in found}) == 16


def test_every_axis_is_varied_alone_and_no_job_is_asked_for_twice():
    specs = cost.plan(["frozen", "lora", "lora-smoe"], list(cost.AXES), None, COMMON)
    assert len({s.key for s in specs}) == len(specs)
    points = [
        (s.model, s.max_length, s.probe_documents, s.hyperparameters["r"], s.hyperparameters["mean_experts"])
        for s in specs
        if s.method == "lora-smoe"
    ]
    base = points[0]
    assert len(points) == 1 + sum(len(set(values) - {cost.BASE[axis]}) for axis, values in cost.AXES.items())
    assert all(sum(a != b for a, b in zip(point, base, strict=True)) <= 1 for point in points)
    assert {s.probe_documents for s in specs if s.method == "lora"} == {cost.BASE["probe"]}


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_contestant_is_swept_along_the_axes_that_mean_something_to_it(name):
    cls = registry.methods()[name]
    specs = cost.plan([name], ["experts", "rank"], None, COMMON)
    fields = {f.name for f in dataclasses.fields(cls)}
    mixture = issubclass(cls, ExpertMethod) and name != "lora-own"
    experts = mixture and name not in ("mola", "smora")  # their numbers are the shape's and the rank's
    one = cls.least_experts == 1
    assert len(specs) == 1 + (2 + one) * experts + 3 * bool(fields & {"r", "target_r"})
    ranks = {s.hyperparameters.get("target_r", s.hyperparameters.get("r")) for s in specs}
    many = 1 if mixture and name != "smora" else cost.BASE["experts"]
    assert ranks == ({None} if name in ("frozen", "full") else {many * r for r in cost.AXES["rank"]})


def test_published_shapes_take_the_place_of_widths_and_depths():
    specs = cost.plan(["lora"], ["width", "length"], ["random:Qwen2.5-3B", "random:Qwen2.5-7B"], COMMON)
    assert {s.model for s in specs} == {"random:Qwen2.5-3B", "random:Qwen2.5-7B"}
    assert {s.max_length for s in specs} == set(cost.AXES["length"])


def test_an_unknown_axis_and_an_endless_run_are_refused():
    with pytest.raises(ValueError, match="axis 'depth' is not one of: width, layers"):
        cost.plan(["lora"], ["depth"], None, COMMON)
    with pytest.raises(ValueError, match="suite cost has no end of documents: give a limit"):
        resolve(Request(suite="cost", model=MODEL, device="cpu", profile="full", train_documents=8))
