"""Fine-tune with LoRA-SMoE and plain `transformers.Trainer`: score, allocate, wrap, train, save, load.

python examples/finetune_with_trainer.py --model tiny --out /tmp/adapter     # a small random model, no download
python examples/finetune_with_trainer.py --model HuggingFaceTB/SmolLM2-135M --out adapter
"""

from __future__ import annotations

import argparse

import torch
import transformers as tf
from peft import PeftModel, get_peft_model

from smoe import Budget, SMoEConfig, allocate, sensitivity

SUMS = [(f"{a} plus {b} is", f" {a + b}") for a in range(1, 9) for b in range(1, 9)]
SPELLING = [(f"{word} begins with", f" {word[0]}") for word in "apple banana cherry date elder fig grape".split()]


def load(name: str):  # the model, and text -> tokens
    if name != "tiny":
        return tf.AutoModelForCausalLM.from_pretrained(name), tf.AutoTokenizer.from_pretrained(name).encode
    torch.manual_seed(0)
    config = tf.LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    config.num_key_value_heads, config.vocab_size = 2, 257
    return tf.AutoModelForCausalLM.from_config(config), lambda text: list(text.encode())  # a token a byte


def batch(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    width, fill = max(len(row["input_ids"]) for row in rows), {"input_ids": 0, "attention_mask": 0, "labels": -100}
    return {k: torch.tensor([row[k] + [pad] * (width - len(row[k])) for row in rows]) for k, pad in fill.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    for flag, default in {"--model": "tiny", "--out": "adapter", "--steps": 30}.items():
        parser.add_argument(flag, default=default, type=type(default))
    options = parser.parse_args()
    model, encode = load(options.model)

    def row(prompt: str, answer: str) -> dict[str, list[int]]:
        p, whole = len(encode(prompt)), encode(prompt + answer)
        return {"input_ids": whole, "attention_mask": [1] * len(whole), "labels": [-100] * p + whole[p:]}

    tasks = {"sums": [row(*pair) for pair in SUMS], "spelling": [row(*pair) for pair in SPELLING]}
    measured = sensitivity(model, {task: [batch(rows[:4])] for task, rows in tasks.items()})
    experts = allocate(measured.scores, budget=Budget(mean_experts=1))
    model = get_peft_model(model, SMoEConfig(r=8, expert_pattern=experts, task_type="CAUSAL_LM"))
    model.print_trainable_parameters()
    arguments = tf.TrainingArguments(options.out, max_steps=options.steps, learning_rate=1e-2, report_to=[])
    tf.Trainer(model, arguments, batch, tasks["sums"] + tasks["spelling"]).train()
    model.save_pretrained(options.out)
    print("loads again:", type(PeftModel.from_pretrained(load(options.model)[0], options.out).base_model).__name__)


if __name__ == "__main__":
    main()
