"""job(spec) -> Record: the one place where the parts meet."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed

from baselines.method import Attached, Method
from benchmarks import registry
from benchmarks.data import batches, synthetic
from benchmarks.data.examples import Example
from benchmarks.data.protocols import protocol
from benchmarks.jobs.evaluate import evaluate
from benchmarks.jobs.executors import Progress
from benchmarks.jobs.first_step import first_step
from benchmarks.jobs.forward import forward
from benchmarks.jobs.meter import measure
from benchmarks.jobs.train import train
from benchmarks.models import load as models
from benchmarks.plan import custom, match
from results import Cost, Parameters, Record, RunSpec, Score
from results.names import pick
from smoe import Probe


def job(spec: RunSpec, progress: Progress, draft: Record) -> Record:
    """Load, attach, train and evaluate what `spec` asks for.

    `draft` is the record so far, updated in place in its `costs`, `data` and `environment`, so that a job that fails
    leaves what it had measured.
    """
    costs: dict[str, Cost | None] = draft.costs  # type: ignore[assignment]
    method = registry.method(spec.method)(**spec.hyperparameters)
    asked = protocol(spec.protocol)

    progress("load", 0, 1)
    with measure(spec.device) as meter:
        base, tokenizer = models.load(spec.model, spec.dtype, spec.device, spec.quantize, spec.trust_remote_code)
    costs["load"] = meter.cost
    draft.environment["model_commit"] = getattr(base.config, "_commit_hash", None)  # type: ignore[index]
    dimensions = asked.facts(base.config)
    tasks, examples = asked.data(spec, tokenizer, draft.data)  # type: ignore[arg-type]
    total_steps = batches.num_optimizer_steps(sum(map(len, examples.values())), spec.batch_size, spec.epochs)
    probe = calibration_samples(spec, examples, tokenizer)

    progress("allocate", 0, 1)
    shapes = match.shapes_of(base) if spec.match != "none" else {}
    set_seed(spec.seed)
    with measure(spec.device) as meter:
        model = method.attach(base, probe, total_steps)
    costs["allocate"] = meter.cost
    made_equal = match.achieved(spec.match, method, model, shapes)
    trainable = models.count(model, trainable=True)
    step = first_step(model, probe, spec.learning_rate, spec.weight_decay) if total_steps else None

    with measure(spec.device) as meter:
        losses, meter.tokens = trained(spec, model, method, examples, tokenizer, progress)
    costs["train"] = meter.cost
    for task, counts in batches.documents_by_step(_together(examples), spec.batch_size, spec.epochs, spec.seed).items():
        draft.data[task] |= {"step_documents": counts} if losses else {}  # type: ignore[index]
    with measure(spec.device) as meter:
        scores, meter.tokens = evaluated(spec, model, tokenizer, tasks, partial(progress, "evaluate"))
    costs["evaluate"] = meter.cost

    facts = {**method.facts(model), **method.router_diagnostics(model, probe)} if total_steps else {}
    return replace(
        draft,
        status="done",
        error=None,
        scores=scores,
        losses=tuple(losses),
        first_step=step,
        parameters=parameters(model, trainable, facts.pop("parameters", {})),
        facts={**dimensions, **facts, **made_equal},
    )


def calibration_samples(spec: RunSpec, examples: Mapping[str, list[Example]], tokenizer: Any) -> Probe:
    """Return the first `probe_documents` training examples of each task as batches on the job's device."""
    probe = batches.probe(examples, spec.probe_documents, spec.batch_size, tokenizer.pad_token_id)
    return {task: [{k: v.to(spec.device) for k, v in b.items()} for b in batch] for task, batch in probe.items()}


def trained(
    spec: RunSpec,
    model: Attached,
    method: Method,
    examples: Mapping[str, list[Example]],
    tokenizer: Any,
    progress: Progress,
) -> tuple[list[float], int]:
    """Train the attached model in place on all examples together; returns the losses and the tokens."""
    together = _together(examples)
    return train(
        model,
        method,
        batches.stream(together, spec.batch_size, spec.micro_batch, spec.epochs, spec.seed, tokenizer.pad_token_id),
        total_steps=batches.num_optimizer_steps(len(together), spec.batch_size, spec.epochs),
        learning_rate=spec.learning_rate,
        warmup_fraction=spec.warmup_fraction,
        weight_decay=spec.weight_decay,
        seed=spec.seed,
        compiled=spec.compiled,
        progress=partial(progress, "train"),
    )


def _together(examples: Mapping[str, list[Example]]) -> list[Example]:
    return [example for own in examples.values() for example in own]


def evaluated(
    spec: RunSpec, model: Attached, tokenizer: Any, tasks: Mapping[str, Any], progress: Any
) -> tuple[dict[str, Score], int]:
    """Return the score of each task, none where the protocol has no scores, and the tokens that were read."""
    size = spec.evaluation_batch_size
    if not protocol(spec.protocol).scored:
        documents = synthetic.evaluation(spec, len(tokenizer))
        return {}, forward(model, documents, size, tokenizer.pad_token_id, progress)
    suites = registry.suites()
    suite = custom.suite(spec.tasks) if spec.suite == custom.NAME else pick("suite", spec.suite, suites)
    return evaluate(model, tokenizer, tasks, suite.metrics(spec.protocol), size, progress)


def parameters(model: Attached, trainable: int, counts: Mapping[str, int]) -> Parameters:
    """Return the counts of a trained model. trainable: while training started; counts: what the method told."""
    remaining = counts.get("after_pruning", trainable)
    return Parameters(
        total=models.count(model),
        trainable=trainable,
        experts=counts.get("experts"),
        router=counts.get("router"),
        active_per_token=counts.get("active_per_token", remaining),
        after_pruning=remaining,
        adapter_bytes=adapter_bytes(model),
    )


def adapter_bytes(model: Attached) -> int | None:
    """Size of the adapter's safetensors file as PEFT saves it; None for a model without an adapter."""
    if not hasattr(model, "peft_config"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return sum(file.stat().st_size for file in Path(folder).rglob("*.safetensors"))
