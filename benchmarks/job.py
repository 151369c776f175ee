"""job(spec) -> Record: the one place where the parts meet. Run as a module it is the child process of one job.

`python -m benchmarks.job SPEC.json OUT` reads a spec, writes its record into the folder OUT, and tells how far it is on
standard output, one JSON list a line: [phase, done, total]. It ends when its standard input closes, so that a parent
that was killed leaves no child behind.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed

from baselines.method import Attached
from benchmarks import batches, evaluate, examples, match, models, registry, sources
from benchmarks.executors import COMMAND, Progress
from benchmarks.meter import device_bytes_in_use, measure
from benchmarks.train import train
from results import Parameters, Record, RunSpec
from results.environment import environment
from results.store import SCRATCH, Store, StoreError

IDLE_BYTES = 500 * 2**20  # more than this in use before the start is somebody else's work (PEFT's rule)


def job(spec: RunSpec, progress: Progress, draft: Record) -> Record:
    """Do what `spec` asks. `draft` is the record so far, updated in place in its `costs`, `facts` and `data`."""
    method = registry.pick("method", spec.method, registry.methods())(**spec.hyperparameters)
    suite = registry.pick("suite", spec.suite, registry.suites())
    costs: dict[str, Any] = draft.costs  # type: ignore[assignment]
    data: dict[str, Any] = draft.data  # type: ignore[assignment]

    progress("load", 0, 1)
    with measure(spec.device) as meter:
        base, tokenizer = models.load(spec.model, spec.dtype, spec.device)
    costs["load"] = meter.cost

    tasks, chosen = training_data(spec, tokenizer, data)
    everything = [e for found in chosen.values() for e in found]
    total_steps = batches.steps(len(everything), spec.batch_size, spec.epochs)
    probe = batches.probe(chosen, spec.probe_documents, spec.batch_size, tokenizer.pad_token_id)
    probe = {t: [{k: v.to(spec.device) for k, v in b.items()} for b in found] for t, found in probe.items()}

    progress("allocate", 0, 1)
    shapes = match.shapes_of(base) if spec.match != "none" else {}
    set_seed(spec.seed)
    with measure(spec.device) as meter:
        model = method.attach(base, probe, total_steps)
    costs["allocate"] = meter.cost
    made_equal = match.achieved(spec.match, method, model, shapes)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)

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
            progress=lambda done, total: progress("train", done, total),
        )
    costs["train"] = meter.cost

    with measure(spec.device) as meter:
        scores, meter.tokens = evaluate.evaluate(
            model,
            tokenizer,
            tasks,
            suite.headline,
            spec.evaluation_batch_size,
            lambda done, total: progress("evaluate", done, total),
        )
    costs["evaluate"] = meter.cost

    facts = {**method.facts(model), **method.observe(model, probe)} if total_steps else {}
    counts = facts.pop("parameters", {})
    return replace(
        draft,
        status="done",
        error=None,
        scores=scores,
        losses=tuple(losses),
        facts={**facts, **made_equal},
        parameters=Parameters(
            total=sum(p.numel() for p in model.parameters()),
            trainable=trainable,
            experts=counts.get("experts"),
            router=counts.get("router"),
            active_per_token=counts.get("active_per_token", trainable),
            after_pruning=counts.get("after_pruning", trainable),
            adapter_bytes=adapter_bytes(model),
        ),
    )


def training_data(spec: RunSpec, tokenizer: Any, data: dict[str, Any]) -> tuple[dict, dict[str, list]]:
    """(lm-eval tasks over the evaluation documents, training examples of each task); describes both in `data`."""
    splits = sources.splits(spec.source, spec.tasks)
    for split in splits.values():
        limit = min(spec.evaluation_limit or len(split["evaluate"]), len(split["evaluate"]))
        split["evaluate"] = split["evaluate"].select(range(limit))
    tasks = evaluate.task_objects(splits)
    counts = examples.shares({n: len(s["train"]) for n, s in splits.items()}, spec.train_documents, spec.mixture)
    chosen: dict[str, list] = {}
    for name, task in tasks.items():
        docs = examples.drawn(evaluate.training_docs(task), counts[name], spec.data_seed, name)
        pairs = evaluate.examples(task, docs)
        chosen[name] = [examples.encode(tokenizer, name, c, a, spec.max_length) for c, a in pairs]
        data[name] = {
            "train_documents": len(docs),
            "train_hash": sources.text_hash("".join(c + a for c, a in pairs))[:12],
            "train_tokens": sum(len(e.ids) for e in chosen[name]),
            "truncated": sum(e.truncated for e in chosen[name]),
            "evaluation_documents": len(splits[name]["evaluate"]),
            "evaluation_hash": sources.text_hash("".join(map(sources.fingerprint, splits[name]["evaluate"])))[:12],
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


def attempt(spec: RunSpec, progress: Progress) -> Record:
    """The record of the job, or of its failure with what was measured before it."""
    in_use = device_bytes_in_use(spec.device)
    cuda = spec.device == "cuda"
    surroundings = environment(torch.cuda.get_device_name() if cuda else None)
    if given := os.environ.get(COMMAND):
        surroundings["command"] = json.loads(given)
    surroundings["threads"] = torch.get_num_threads()
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
