"""The card of a kept adapter: how to load it, in which precision it was scored, and the command that scores it again.

It lies with the record in the adapter's PEFT folder.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.data import hub, tasks
from benchmarks.jobs.kept.places import CARD, CONFIG, RECORD, SAMPLES
from benchmarks.jobs.scoring import named
from benchmarks.models.attention import EAGER, SDPA
from benchmarks.models.load import EMBEDDED, RANDOM, TINY
from results import Record, RunSpec
from results.store import render
from results.table import Table, escape_markdown, markdown
from results.tuning import HELD_OUT

LM_EVAL = "import smoe; from lm_eval.__main__ import cli_evaluate; cli_evaluate()"


def finish(part: Path, record: Record, place: Path) -> None:
    """Put card and record into the folder that the adapter was saved to, and the folder in its place, whole."""
    if record.status != "done" or not (part / CONFIG).is_file():
        return shutil.rmtree(part, ignore_errors=True)
    lines = evaluated_lines(record)
    if lines:
        (part / SAMPLES).write_text(json.dumps(lines) + "\n", encoding="utf-8")
    (part / RECORD).write_text(render(record), encoding="utf-8")
    (part / CARD).write_text(card(record, lines), encoding="utf-8")
    shutil.rmtree(place, ignore_errors=True)
    os.replace(part, place)


def evaluated_lines(record: Record) -> dict[str, list[int]]:
    """Return which documents of each of one's own tasks were scored, by their number in the task's evaluation split."""
    spec, lines = record.spec, dict[str, list[int]]()
    own = tasks.own_tasks() if spec.own_tasks else {}
    for name in own.keys() & set(spec.trained_tasks):
        said = tasks.settings(name)
        if (
            spec.split == HELD_OUT
            or said.get("process_docs")
            or not (said.get("test_split") and said["training_split"])
        ):
            continue  # lm-eval numbers other documents than those
        names = named(map(tasks.doc_hash, hub.read(said, {})[1]))
        number = {name: i for i, name in enumerate(names)}
        lines[name] = sorted(number[document] for document in (record.scores or {})[name].documents)
    return lines


def precision(spec: RunSpec) -> dict[str, str]:
    """Return what scores depend on beside the weights, in the words of lm-eval's `--model_args`."""
    attention = EAGER if spec.device == "cpu" else SDPA
    return {"dtype": spec.dtype, "softmax_dtype": "float32", "attn_implementation": attention}


def card(record: Record, lines: Mapping[str, list[int]]) -> str:
    """Write the model card: what it is, how it is loaded, its scores, and how they are had again."""
    spec, base = record.spec, base_of(record.spec)
    facts = {
        "record": f"{_code(record.key)} ({RECORD} beside this file)",
        "base": _code(spec.model) + (f", content {spec.model_content}" if spec.model_content else ""),
        "method": f"{_code(spec.method)}, "
        + escape_markdown(
            ", ".join(f"{k}={_short(v)}" for k, v in spec.hyperparameters.items() if k != "target_modules")
        ),
        "trained on": f"{escape_markdown(', '.join(spec.trained_tasks))}; "
        + f"{sum(record.data[t].get('train_documents', 0) for t in spec.trained_tasks):,} documents, "
        + f"{spec.epochs:g} epochs, peak rate {spec.learning_rate:g}, seed {spec.seed}",
        "scored": f"weights in {spec.dtype}, {precision(spec)['attn_implementation']} attention, log-softmax in "
        + f"float32, {spec.evaluation_batch_size} requests at once, on {spec.device} by {record.scorer}",
    }
    rows = [(task, s.metric, f"{s.value:.4f}", str(s.count)) for task, s in (record.scores or {}).items()]
    scores = Table("", ("task", "metric", "value", "documents"), tuple(rows), frozenset({0, 1}))
    return "\n".join(
        [
            "---",
            "library_name: peft",
            f"base_model: {json.dumps(spec.model)}",
            f"tags: [{json.dumps(spec.method)}, peft]",
            "---",
            f"# {escape_markdown(f'{spec.method} on {spec.model_name}, seed {spec.seed}')}",
            "",
            *(f"- {name}: {value}" for name, value in facts.items()),
            "",
            "```python",
            "import os",
            "",
            "import smoe  # makes PEFT know the mixtures; PEFT's own tuners do without",
            "import torch",
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM",
            "",
            f"base = {base[0] if base else 'None  # random weights of benchmarks.models.load'}",
            f"how = dict(dtype=torch.{spec.dtype}, attn_implementation={precision(spec)['attn_implementation']!r})",
            "model = AutoModelForCausalLM.from_pretrained(base, **how)",
            'model = PeftModel.from_pretrained(model, "ADAPTER").eval()  # the folder of this file',
            "```",
            "",
            markdown(scores),
            *_again(record, lines),
            "",
        ]
    )


def base_of(spec: RunSpec) -> tuple[str, str] | None:
    """Return the base as Python and as a shell take it; None where it has random weights that nothing else makes."""
    if spec.model == TINY or spec.model.startswith(RANDOM):
        return None
    if spec.model == EMBEDDED:
        code = "from benchmarks.models import assets; print(assets.embedded_model())"
        return "assets.embedded_model()  # from benchmarks.models import assets", f"$(python -c '{code}')"
    if spec.model.startswith("~"):
        return f"os.path.expanduser({spec.model!r})", "$HOME" + spec.model[1:]
    return repr(spec.model), spec.model


def _again(record: Record, lines: Mapping[str, list[int]]) -> list[str]:
    """Say how lm-eval's own command gives the scores again, and for which tasks it cannot."""
    spec, base, notes = record.spec, base_of(record.spec), []
    if base is None:
        return ["The base has random weights that `benchmarks.models.load` makes: nothing else can load it."]
    if others := [task for task in spec.trained_tasks if task not in lines]:
        notes.append(
            f"Of {escape_markdown(', '.join(others))} this run evaluated documents of source {_code(spec.source)}, in "
            "an order of its own: lm-eval's own command reads the full public splits, and its scores differ as those "
            "documents do."
        )
    if lines and spec.protocol == "loglik":
        own = tasks.own_tasks()
        told = {"pretrained": base[1], "peft": "$ADAPTER", **precision(spec)}
        notes += [
            "lm-eval's own command gives the scores of the same documents again; in float32 log-likelihoods agree to "
            "1e-3, in half precision near-ties may fall otherwise. Where a base has more embeddings than its tokeniser "
            "has tokens, lm-eval cuts them off, which moves log-likelihoods by their share of the softmax:",
            "",
            "```sh",
            "export ADAPTER=$PWD  # in this folder",
            f"cd {shlex.quote(own[min(lines)])}  # of the task's file and its documents",
            f'python -c "{LM_EVAL}" --model hf \\',
            f'    --model_args "{",".join(f"{name}={value}" for name, value in told.items())}" \\',
            f'    --tasks {",".join(sorted(lines))} --include_path . --samples "$ADAPTER/{SAMPLES}" \\',
            f"    --device {spec.device} --batch_size {spec.evaluation_batch_size}",
            "```",
        ]
    return notes


def _code(text: str) -> str:
    """Make a span of code, which a backtick would end."""
    return f"`{' '.join(text.split()).replace('`', chr(39))}`"


def _short(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
