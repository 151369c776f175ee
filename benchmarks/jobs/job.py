"""job(spec) -> Record: the one place where the parts meet."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed

from baselines.experts import tell_task
from baselines.method import Attached, Method
from benchmarks import registry
from benchmarks.data import batches, synthetic
from benchmarks.data.examples import Example
from benchmarks.data.protocols import protocol
from benchmarks.jobs.evaluate import evaluate
from benchmarks.jobs.executors import Progress
from benchmarks.jobs.first_step import first_step
from benchmarks.jobs.forward import first_use, forward
from benchmarks.jobs.meter import Phases
from benchmarks.jobs.serving import serve
from benchmarks.jobs.train import checkpointed, train
from benchmarks.jobs.variants import router_variants
from benchmarks.models import identity
from benchmarks.models import load as models
from benchmarks.plan import blocks, custom, match
from results import Parameters, Record, RunSpec, Score
from results.record import DESCRIBE, PREPARE, SAVE
from smoe import Probe

# Scores by task, tokens that were read, who scored, and facts of a protocol that has no scores.
Scored = tuple[Mapping[str, Score], int, str | None, Mapping[str, Any]]


def job(spec: RunSpec, progress: Progress, draft: Record, keep: Path | None = None) -> Record:
    """Load, attach, train and evaluate what `spec` asks for.

    `draft` is the record so far, updated in place in its `costs`, `data` and `environment`, so that a job that fails
    leaves what it had measured. keep: a folder for the trained adapter, where there is one.
    """
    phase = Phases(draft.costs, spec.device)  # type: ignore[arg-type]
    method = registry.method(spec.method)(**spec.hyperparameters)
    asked = protocol(spec.protocol)
    base, tokenizer = loaded(spec, phase, progress)
    draft.environment["model_commit"] = getattr(base.config, "_commit_hash", None)  # type: ignore[index]
    progress(PREPARE, 0, 1)
    with phase(PREPARE):
        tasks, examples = asked.data(spec, tokenizer, draft.data)  # type: ignore[arg-type]
        total_steps = batches.num_optimizer_steps(sum(map(len, examples.values())), spec.batch_size, spec.epochs)
        probe = calibration_samples(spec, examples, tokenizer)
        trained_blocks = blocks.chosen(base, method, spec.targets)
        method = blocks.with_blocks(method, trained_blocks)
        dimensions = {**asked.facts(base.config), **blocks.facts(base, trained_blocks)}
        shapes = match.reference_shapes(base, spec.targets) if spec.match != "none" else {}
        plain = models.twin(base) if asked.keeps_base else None
        first_use(base)
        set_seed(spec.seed)

    progress("allocate", 0, 1)
    with phase("allocate"):
        model = attached(spec, base, method, probe, examples, tokenizer, total_steps)
    with phase(DESCRIBE):
        blocks.check_trained(method, model, trained_blocks)
        made_equal = match.achieved(spec.match, method, model, shapes)
        trainable = models.count(model, trainable=True)
        step = first_step(model, probe, spec.learning_rate, spec.weight_decay) if total_steps and spec.scored else None

    with phase("train") as meter:
        losses, meter.tokens = trained(spec, model, method, examples, tokenizer, progress)
    note_steps(spec, losses, examples, draft)
    evaluation = partial(evaluated, spec, model, method, tokenizer, tasks, partial(progress, "evaluate"), plain)
    with phase("evaluate") as meter:
        scores, meter.tokens, scorer, measured = evaluation()

    progress(DESCRIBE, 0, 1)
    with phase(DESCRIBE):
        facts = {**method.facts(model), **method.router_diagnostics(model, probe)} if total_steps else {}
        facts |= {**dimensions, **measured, **made_equal}
        changed = variants(spec, model, tokenizer, evaluation)
    with phase(SAVE):
        counts = parameters(model, trainable, facts.pop("parameters", {}), keep)
    return replace(
        draft,
        status="done",
        error=None,
        scores=scores,
        variants=changed,
        losses=tuple(losses),
        trained_blocks=trained_blocks,
        first_step=step,
        scorer=scorer,
        parameters=counts,
        facts=facts,
    )


def loaded(spec: RunSpec, phase: Phases, progress: Progress) -> tuple[Any, Any]:
    """Return the frozen model and its tokeniser. Raises ValueError where its content is not that of the plan."""
    progress("load", 0, 1)
    with phase(PREPARE):
        commit = identity.checked_revision(spec.model, spec.model_content)
    with phase("load"):
        return models.load(spec.model, spec.dtype, spec.device, spec.quantize, spec.trust_remote_code, commit)


def note_steps(spec: RunSpec, losses: list[float], examples: Mapping[str, list[Example]], draft: Record) -> None:
    """Put into the draft's data how many documents of each task every step held, where steps were made."""
    if not losses:
        return
    drawn = batches.documents_by_step(_together(examples), spec.batch_size, spec.epochs, spec.seed)
    for task, counts in drawn.items():
        draft.data[task]["step_documents"] = counts  # type: ignore[index]


def calibration_samples(spec: RunSpec, examples: Mapping[str, list[Example]], tokenizer: Any) -> Probe:
    """Return the first `probe_documents` training examples of each task as batches on the job's device."""
    probe = batches.probe(examples, spec.probe_documents, spec.batch_size, tokenizer.pad_token_id)
    return {task: [{k: v.to(spec.device) for k, v in b.items()} for b in batch] for task, batch in probe.items()}


def attached(
    spec: RunSpec,
    base: Any,
    method: Method,
    probe: Probe,
    examples: Mapping[str, list[Example]],
    tokenizer: Any,
    total_steps: int,
) -> Attached:
    """Attach the method, after it has looked at training batches in the training's order where it wants to."""
    if method.search_over and total_steps:
        size, pad = spec.batch_size, tokenizer.pad_token_id
        stream = batches.stream(_together(examples), size, spec.micro_batch, method.search_over, spec.seed, pad)
        method.search(base, ({k: v.to(spec.device) for k, v in b.items()} for parts, _ in stream for b in parts))
    return method.attach(base, probe, total_steps)


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
    with checkpointed(model) if spec.gradient_checkpointing else contextlib.nullcontext():
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
    return [example for task_examples in examples.values() for example in task_examples]


def evaluated(
    spec: RunSpec,
    model: Attached,
    method: Method,
    tokenizer: Any,
    tasks: Mapping[str, Any],
    progress: Any,
    plain: Any = None,
) -> Scored:
    """Return the score of each task, none where the protocol has no scores, the tokens read, who scored, and facts.

    A method that is told the task is asked for one task after the other. plain: the base, where the protocol keeps it.
    """
    size = spec.evaluation_batch_size
    if plain is not None:
        if method.told_tasks:
            tell_task(model, spec.trained_tasks[0])
        served, tokens = serve(plain, model, spec.evaluation_limit or 1, len(tokenizer), progress)
        return {}, tokens, None, {"serving": served}
    if not protocol(spec.protocol).scored:
        documents = synthetic.evaluation(spec, len(tokenizer))
        return {}, forward(model, documents, size, tokenizer.pad_token_id, progress), None, {}
    metrics = custom.suite_of(spec).metrics(spec.protocol)
    scores: dict[str, Score] = {}
    tokens, scorer = 0, None
    for together in [[name] for name in tasks] if method.told_tasks else [list(tasks)]:
        if method.told_tasks:
            tell_task(model, together[0])
        headline = {name: metrics[name] for name in together}
        part = evaluate(model, tokenizer, {t: tasks[t] for t in together}, headline, size, progress, spec.scorer)
        scores, tokens, scorer = scores | part.scores, tokens + part.tokens, part.scorer
    return scores, tokens, scorer, {}


def variants(
    spec: RunSpec, model: Attached, tokenizer: Any, evaluation: Callable[[], Scored]
) -> Mapping[str, Mapping[str, Score]] | None:
    """Return what the evaluation gives with the routers changed, where that was asked for; charged to no phase."""
    if not (spec.probe_router and spec.scored):
        return None
    padding = {0, tokenizer.pad_token_id}  # evaluation pads by 0, training by the other
    return router_variants(model, lambda: evaluation()[0], padding, spec.seed)


def parameters(model: Attached, trainable: int, counts: Mapping[str, int], keep: Path | None = None) -> Parameters:
    """Return the counts of a trained model.

    trainable: while training started; counts: what the method told; keep: a folder for the adapter.
    """
    remaining = counts.get("after_pruning", trainable)
    return Parameters(
        total=models.count(model),
        trainable=trainable,
        experts=counts.get("experts"),
        router=counts.get("router"),
        active_per_token=counts.get("active_per_token", remaining),
        after_pruning=remaining,
        adapter_bytes=adapter_bytes(model, keep),
    )


def adapter_bytes(model: Attached, keep: Path | None = None) -> int | None:
    """Size of the adapter's safetensors file as PEFT saves it; None for a model without an adapter.

    keep: the folder that it is saved into; None: one that goes again.
    """
    if not hasattr(model, "peft_config"):
        return None
    with contextlib.nullcontext(keep) if keep else tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return sum(file.stat().st_size for file in Path(folder).rglob("*.safetensors"))
