"""Probes of runs: what is scored, recorded, found again and put into one table."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import transformers as tf
from helper import GENERATE, LocalProcesses, Store, load_records, make_groups, model, rows, run, specs, task

KEEP = "def keep(d): return d.filter(lambda x: x['ok'])\n"


def S2() -> None:
    """Two models of one folder name stand in one table; changed weights are not run again."""
    task()
    model("a/final")
    model("b/final", seed=1)
    for name, methods in (("a/final", "lora:r=2:alpha=4"), ("b/final", "molora:r=2:num_experts=2")):
        for r in run(model=name, methods=methods):
            Store("o2").save(r)
    groups = make_groups(load_records([Path("o2")]))
    print([(g.name, [(w.label, w.done[0].spec.model) for w in g.rows], g.differing) for g in groups])
    model("a/final", seed=7)
    print("found for the new weights:", Store("o2").find(specs(model="a/final")[0]) is not None)


def S5() -> None:
    """Value that is no mean of outcomes; lower is better."""
    likelihood = "output_type: loglikelihood\ndoc_to_choice: null\ndoc_to_target: '{{choices[gold]}}'\n"
    task(extra=likelihood + "metric_list: [{metric: perplexity}]\n")
    score = run()[0].scores["t"]
    print("value", score.value, "mean of outcomes", sum(score.outcomes) / score.count)


def S6() -> None:
    """Rows that were not trained look trained."""
    task()
    print([r.losses for r in run(epochs=0.1, methods="lora:r=2:alpha=4,molora:r=2:num_experts=2")])
    train, test = [r | {"ok": 0} for r in rows(40)], [r | {"ok": 1} for r in rows(20, 100)]
    task(train, test, "process_docs: !function utils.keep\n", KEEP)
    print([r.losses for r in run()])


def S19() -> None:
    """Environment variables of accelerate change the training."""
    task()
    options = {"methods": "full", "learning_rate": 1e-2, "train_documents": 40, "epochs": 2.0}
    run(**options)
    plain = run(**options)[0].losses[-1]
    os.environ["ACCELERATE_GRADIENT_ACCUMULATION_STEPS"] = "8"
    try:
        print(plain, run(**options)[0].losses[-1])
    finally:
        del os.environ["ACCELERATE_GRADIENT_ACCUMULATION_STEPS"]


def L1() -> None:
    """Metrics over the whole set; a metric of one's own; an answer that is too long."""
    task(extra="metric_list: [{metric: mcc}]\n")
    run()
    mine = "metric_list: [{metric: !function utils.mine, aggregation: mean, higher_is_better: true}]\n"
    task(extra=mine, code="def mine(items): return 1.0\n")
    run()
    long = 'generation_kwargs: {until: ["\\n"], max_gen_toks: 4000}\n'
    task(extra=GENERATE + "doc_to_target: '{{choices[gold]}}'\n" + long)
    run()


def L2() -> None:
    """Results inside the task's folder."""
    task()
    command = [sys.executable, "-m", "benchmarks.run", "--model", "tiny", "--tasks", "t", "--include-path", "t"]
    command += ["--out", "t/out", "--methods", "frozen", "--limit", "4", "--train-documents", "16"]
    done = subprocess.run(command, capture_output=True, text=True)
    print(done.returncode, [line for line in done.stdout.splitlines() if "failed" in line][:1])
    shutil.rmtree("t/out")


def L4() -> None:
    """A task that gets no document."""
    task(rows(400))
    other = Path("t/t.yaml").read_text().replace("task: t\n", "task: u\n").replace("train.jsonl", "few.jsonl")
    Path("t/u.yaml").write_text(other)
    Path("t/few.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows(3, 500)))
    run(tasks="t,u", task_shares="proportional", methods="lora:r=2:alpha=4,lora-smoe:r=2:mean_experts=1")


def C3() -> None:
    """EVA on flattened inputs; locks that a file system does not have."""
    task()
    config = tf.OPTConfig(
        vocab_size=258, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
        word_embed_proj_dim=32, bos_token_id=256, eos_token_id=257, pad_token_id=257,
    )  # fmt: skip
    run(
        model=model("opt", config),
        methods="eva-experts:r=2:mean_experts=1:max_experts=4:target_modules=fc1+q_proj",
    )
    planned = specs(methods="frozen", limit=4, seeds=None, dtype="bfloat16", batch_size=8)

    def refuse(*_):
        raise OSError(37, "No locks available")

    lock, fcntl.flock = fcntl.flock, refuse
    try:
        list(LocalProcesses(Store("o9")).run(planned, lambda spec: lambda *progress: None))
    except OSError as error:
        print("run ends:", error)
    finally:
        fcntl.flock = lock
