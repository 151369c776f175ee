"""lm-evaluation-harness scores a saved adapter by its own `--model hf --model_args pretrained=...,peft=...`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers as tf
from peft import PeftModel, get_peft_model

from smoe import SMoEConfig

lm_eval = pytest.importorskip("lm_eval")
ROOT = Path(__file__).parents[2]
QUESTIONS = [("Is it so?", [" yes", " no"]), ("What is it?", [" a cat", " a dog", " a bee"]), ("1 + 1 =", [" 2", " 3"])]


@pytest.fixture
def adapter_folder(model_folder, tmp_path):
    """An adapter with a router in every block and updates so large that they show."""
    torch.manual_seed(1)
    config = SMoEConfig(r=2, num_experts=3, init_weights=False, lora_alpha=64, task_type="CAUSAL_LM")
    get_peft_model(tf.AutoModelForCausalLM.from_pretrained(model_folder), config).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.fixture
def task_folder(tmp_path):
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [{"question": q, "choices": choices, "gold": 0} for q, choices in QUESTIONS]
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    body = {
        "task": "local_questions",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "data.jsonl")}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "gold",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / "local_questions.yaml").write_text(json.dumps(body))  # JSON is YAML
    return folder


def log_likelihoods(model, tokenizer) -> list[list[float]]:
    """Of every choice, one sequence at a time."""
    found = []
    for question, choices in QUESTIONS:
        found.append([])
        for choice in choices:
            ids = torch.tensor([tokenizer(question + choice)["input_ids"]])
            start = len(tokenizer(question)["input_ids"])
            with torch.no_grad():
                log_p = torch.log_softmax(model(input_ids=ids).logits[0, :-1], -1)
            found[-1].append(float(log_p.gather(1, ids[0, 1:, None])[start - 1 :].sum()))
    return found


def test_lm_eval_scores_a_saved_adapter(model_folder, adapter_folder, task_folder):
    from lm_eval.tasks import TaskManager

    output = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(model_folder), "peft": str(adapter_folder), "dtype": "float32"},
        tasks=["local_questions"],
        task_manager=TaskManager(include_path=str(task_folder), include_defaults=False),
        batch_size=2,
        device="cpu",
        bootstrap_iters=10,
    )
    scored = [[pair[0][0] for pair in s["resps"]] for s in output["samples"]["local_questions"]]
    tokenizer = tf.AutoTokenizer.from_pretrained(model_folder)
    base = tf.AutoModelForCausalLM.from_pretrained(model_folder).eval()
    without = log_likelihoods(base, tokenizer)
    expected = log_likelihoods(PeftModel.from_pretrained(base, adapter_folder).eval(), tokenizer)
    for found, exact, plain in zip(scored, expected, without, strict=True):
        assert found == pytest.approx(exact, abs=1e-3)
        assert max(abs(a - b) for a, b in zip(exact, plain, strict=True)) > 0.1, "the adapter changes nothing"
    right = sum(values[0] == max(values) for values in expected) / len(expected)
    assert output["results"]["local_questions"]["acc,none"] == pytest.approx(right)


def test_the_documented_command_runs(model_folder, adapter_folder, task_folder):
    code = "import smoe; from lm_eval.__main__ import cli_evaluate; cli_evaluate()"
    assert code in (ROOT / "smoe" / "README.md").read_text()
    # lm-eval reads its own thousands of task files first, which takes longer than the rest.
    only_ours = (
        "import functools, lm_eval.tasks as t; t.TaskManager = functools.partial(t.TaskManager, include_defaults=0)"
    )
    options = {
        "--model": "hf",
        "--model_args": f"pretrained={model_folder},peft={adapter_folder}",
        "--tasks": "local_questions",
        "--include_path": str(task_folder),
        "--device": "cpu",
    }
    command = [sys.executable, "-c", f"{only_ours}; {code}", *(part for pair in options.items() for part in pair)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "|local_questions|" in done.stdout
