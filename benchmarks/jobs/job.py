"""job(spec) -> Record: the one place where the parts meet. Run as a module it is the child process of one job.

`python -m benchmarks.jobs.job SPEC.json OUT` writes the record into the folder OUT and tells how far it is on
standard output, one JSON list a line: [phase, done, total]. It ends when its standard input closes, so that a parent
that was killed leaves no child behind.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed

from baselines.method import Attached
from benchmarks import registry
from benchmarks.data import batches, examples, sources, synthetic
from benchmarks.data.tasks import OWN, prompt_hash, task_objects, training_docs, training_pairs
from benchmarks.jobs import evaluate
from benchmarks.jobs.executors import COMMAND, Progress
from benchmarks.jobs.meter import device_bytes_in_use, measure
from benchmarks.jobs.train import train
from benchmarks.models import load as models
from benchmarks.plan import custom, match
from results import Cost, Parameters, Record, RunSpec, Score
from results.environment import environment
from results.names import pick
from results.record import COST
from results.store import SCRATCH, Store, StoreError

IDLE_BYTES = 500 * 2**20  # more than this in use before the start is somebody else's work (PEFT's rule)


@dataclass(frozen=True)
class Part:
    """What one adapter gave: a job has one for all tasks, or one for each."""

    scores: dict[str, Score]
    losses: list[float]
    facts: dict[str, Any]
    parameters: Parameters


def job(spec: RunSpec, progress: Progress, draft: Record) -> Record:
    """Do what `spec` asks. `draft` is the record so far, updated in place in its `costs`, `facts` and `data`.

    With an adapter for each task, each is trained on a model loaded afresh. Seconds, tokens, parameters and bytes are
    then sums over the adapters, peaks and the parameters that a token meets their maximum, losses stand one after
    another in the order of the tasks, and facts by task under "adapters".
    """
    known = registry.suites()
    suite = custom.suite(spec.tasks) if spec.suite == custom.NAME else pick("suite", spec.suite, known)
    metrics = suite.metrics(spec.protocol)
    costs: dict[str, Cost] = draft.costs  # type: ignore[assignment]
    data: dict[str, Any] = draft.data  # type: ignore[assignment]
    parts: list[Part] = []
    for names in spec.trained_together:
        progress("load", 0, 1)
        with measure(spec.device) as meter:
            base, tokenizer = models.load(spec.model, spec.dtype, spec.device, spec.quantize, spec.trust_remote_code)
        add_cost(costs, "load", meter.cost)
        size = models.count(base)
        if not parts:
            draft.environment["model_commit"] = getattr(base.config, "_commit_hash", None)  # type: ignore[index]
            dimensions = {"shape": synthetic.shape(base.config)} if spec.protocol == COST else {}
            tasks, chosen = training_data(spec, tokenizer, data)
        own = {name: tasks.get(name) for name in names}, {name: chosen[name] for name in names}
        parts.append(adapter(spec, base, tokenizer, *own, metrics, costs, progress))
        del base  # the next one is not to be loaded beside it
    by_task = {names[0]: part.facts for names, part in zip(spec.trained_together, parts, strict=True)}
    return replace(
        draft,
        status="done",
        error=None,
        scores={task: score for part in parts for task, score in part.scores.items()},
        losses=tuple(loss for part in parts for loss in part.losses),
        facts=dimensions | (parts[0].facts if spec.adapters == "multi" else {"adapters": by_task}),
        parameters=all_parameters([part.parameters for part in parts], size),
    )


def adapter(
    spec: RunSpec,
    base: torch.nn.Module,
    tokenizer: Any,
    tasks: Mapping[str, Any],
    chosen: Mapping[str, list],
    metrics: Mapping[str, str],
    costs: dict[str, Cost],
    progress: Progress,
) -> Part:
    """Attach, train and evaluate one adapter; what the phases cost is added to `costs`."""
    method = pick("method", spec.method, registry.methods())(**spec.hyperparameters)
    everything = [e for found in chosen.values() for e in found]
    total_steps = batches.num_optimizer_steps(len(everything), spec.batch_size, spec.epochs)
    probe = batches.probe(chosen, spec.probe_documents, spec.batch_size, tokenizer.pad_token_id)
    probe = {t: [{k: v.to(spec.device) for k, v in b.items()} for b in found] for t, found in probe.items()}

    progress("allocate", 0, 1)
    shapes = match.shapes_of(base) if spec.match != "none" else {}
    set_seed(spec.seed)
    with measure(spec.device) as meter:
        model = method.attach(base, probe, total_steps)
    add_cost(costs, "allocate", meter.cost)
    made_equal = match.achieved(spec.match, method, model, shapes)
    trainable = models.count(model, trainable=True)

    with measure(spec.device) as meter:
        losses, meter.tokens = train(
            model,
            method,
            batches.stream(everything, spec.batch_size, spec.epochs, spec.seed, tokenizer.pad_token_id),
            total_steps=total_steps,
            learning_rate=spec.learning_rate,
            warmup_fraction=spec.warmup_fraction,
            weight_decay=spec.weight_decay,
            seed=spec.seed,
            compiled=spec.compiled,
            progress=lambda done, total: progress("train", done, total),
        )
    add_cost(costs, "train", meter.cost)

    with measure(spec.device) as meter:
        evaluated = partial(progress, "evaluate")
        scores: dict[str, Score] = {}
        if spec.protocol == COST:
            meter.tokens = synthetic.forward(model, tokenizer, spec, list(tasks), evaluated)
        else:
            size = spec.evaluation_batch_size
            scores, meter.tokens = evaluate.evaluate(model, tokenizer, tasks, metrics, size, evaluated)
    add_cost(costs, "evaluate", meter.cost)

    facts = {**method.facts(model), **method.router_diagnostics(model, probe)} if total_steps else {}
    counts = facts.pop("parameters", {})
    parameters = Parameters(
        total=models.count(model),
        trainable=trainable,
        experts=counts.get("experts"),
        router=counts.get("router"),
        active_per_token=counts.get("active_per_token", counts.get("after_pruning", trainable)),
        after_pruning=counts.get("after_pruning", trainable),
        adapter_bytes=adapter_bytes(model),
    )
    return Part(scores, losses, {**facts, **made_equal}, parameters)


def add_cost(costs: dict[str, Cost], phase: str, cost: Cost | None) -> None:
    """Put a phase among the costs, or add to it: seconds and tokens add up, of peaks the highest stays."""
    found = [c for c in (costs.get(phase), cost) if c is not None]
    names = [f.name for f in dataclasses.fields(Cost)]
    costs[phase] = Cost(**{n: _over([getattr(c, n) for c in found], max if "peak" in n else sum) for n in names})


def all_parameters(found: Sequence[Parameters], base: int) -> Parameters:
    """Of all adapters of a job together, the model of `base` parameters counted once."""
    sums = {f.name: _over([getattr(p, f.name) for p in found], sum) for f in dataclasses.fields(Parameters)}
    active = _over([p.active_per_token for p in found], max)
    return Parameters(**{**sums, "total": base + sum(p.total - base for p in found), "active_per_token": active})


def _over(values: Sequence[Any], combine: Callable[[Sequence[Any]], Any]) -> Any:
    """None where one of the values is not known."""
    return None if None in values else combine(values)


def training_data(spec: RunSpec, tokenizer: Any, data: dict[str, Any]) -> tuple[dict, dict[str, list]]:
    """(lm-eval tasks over the evaluation documents, training examples of each task); describes both in `data`."""
    if spec.protocol == COST:
        return {}, synthetic.training(spec, len(tokenizer), data)
    if sources.own_files(spec.tasks) != spec.own_tasks:
        raise ValueError(f"the files of one's own tasks changed after the run was planned, or {OWN} is not set")
    splits = sources.splits(spec.source, spec.tasks, spec.split, spec.revisions)
    for split in splits.values():
        limit = min(spec.evaluation_limit or len(split["evaluate"]), len(split["evaluate"]))
        split["evaluate"] = split["evaluate"].select(range(limit))
    tasks = task_objects(splits, spec.protocol)
    counts = examples.shares({n: len(s["train"]) for n, s in splits.items()}, spec.train_documents, spec.mixture)
    chosen: dict[str, list] = {}
    for name, task in tasks.items():
        docs = examples.sample_documents(training_docs(task), counts[name], spec.data_seed, name)
        pairs = training_pairs(task, docs, end=tokenizer.eos_token)
        chosen[name] = [examples.encode(tokenizer, name, c, a, spec.max_length) for c, a in pairs]
        data[name] = {
            "train_documents": len(docs),
            "train_hash": sources.text_hash("".join(c + a for c, a in pairs))[:12],
            "train_tokens": sum(len(e.ids) for e in chosen[name]),
            "truncated": sum(e.truncated for e in chosen[name]),
            "evaluation_documents": len(splits[name]["evaluate"]),
            "evaluation_hash": sources.text_hash("".join(map(sources.fingerprint, splits[name]["evaluate"])))[:12],
            "prompt_hash": prompt_hash(task),
            "task_version": str(task.VERSION),
        }
    return tasks, chosen


def adapter_bytes(model: Attached) -> int | None:
    """Size of the adapter's safetensors file as PEFT saves it; None for a model without an adapter."""
    if not hasattr(model, "peft_config"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return sum(file.stat().st_size for file in Path(folder).rglob("*.safetensors"))


def repeatable(device: str) -> bool:
    """Whether the same spec gives the same losses and outcomes bit for bit, run again on the same machine."""
    return torch.device(device).type == "cpu" or torch.are_deterministic_algorithms_enabled()


def attempt(spec: RunSpec, progress: Progress) -> Record:
    """The record of the job, or of its failure with what was measured before it."""
    in_use = device_bytes_in_use(spec.device)
    cuda = spec.device == "cuda"
    surroundings = environment(torch.cuda.get_device_name() if cuda else None)
    if given := os.environ.get(COMMAND):
        surroundings["command"] = json.loads(given)
    surroundings["threads"] = torch.get_num_threads()
    surroundings["deterministic"] = repeatable(spec.device)
    surroundings["device_busy_bytes"] = in_use if in_use is not None and in_use > IDLE_BYTES else None
    draft = Record(
        spec=spec,
        status="failed",
        error="did not end",
        scores=None,
        parameters=None,
        costs={},
        losses=None,
        facts={},
        data={},
        environment=surroundings,
    )
    try:
        return job(spec, progress, draft)
    except Exception as error:  # the one place: a failed job is recorded and the rest goes on
        traceback.print_exc()
        where = traceback.extract_tb(error.__traceback__)[-1]
        return replace(draft, error=f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})")


def main(spec_file: str, out: str) -> int:
    """Run the job of one spec file; exit status 0 when it is done, 1 when it failed (the record says why)."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    spec = RunSpec.from_json(json.loads(Path(spec_file).read_text()))

    def progress(phase: str, done: int, total: int) -> None:
        print(json.dumps([phase, done, total]), flush=True)

    record = attempt(spec, progress)
    try:
        Store(Path(out)).save(record)
    except StoreError as error:  # what was measured is kept, if anywhere at all
        print(f"{error}; kept in {Store(SCRATCH).save(record)}", file=sys.stderr)
        raise
    return 0 if record.status == "done" else 1


def _end_with_parent() -> None:
    while os.read(0, 4096):  # not sys.stdin, whose lock a thread must not hold when the interpreter ends
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
