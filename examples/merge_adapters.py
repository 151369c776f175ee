"""Two LoRA adapters trained apart, merged into one: what is left of each.

python examples/merge_adapters.py --model tiny        # a small random model, no download

Only "cat" adds the two updates: it keeps both pairs of matrices side by side, at the sum of their ranks. "ties" and
"dare_ties" combine the A of one with the A of the other and the B likewise, so that their product has terms that are
nobody's: an approximation, at one rank.
"""

from __future__ import annotations

import argparse

import torch
from finetune_with_trainer import SPELLING, SUMS, batch, load
from peft import LoraConfig, PeftModel, get_peft_model

KINDS = {"cat": {}, "ties": {"density": 0.5}, "dare_ties": {"density": 0.5}}
CONFIG = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "up_proj", "down_proj"])


def rows(encode, pairs):
    """Tokens and labels of (prompt, answer) pairs, as one batch; only answers are learned."""
    made = []
    for prompt, answer in pairs:
        p, whole = len(encode(prompt)), encode(prompt + answer)
        made.append({"input_ids": whole, "attention_mask": [1] * len(whole), "labels": [-100] * p + whole[p:]})
    return batch(made)


def train(model, data, steps, rate=1e-2):
    """Train what requires a gradient on one batch."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, weight_decay=0.0)
    for _ in range(steps):
        model(**data).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def trained_apart(model, tasks, steps) -> PeftModel:
    """Return the model with an adapter for each task, each trained on its own task alone."""
    adapted = None
    for name, data in tasks.items():
        adapted = get_peft_model(model, CONFIG, name) if adapted is None else adapted
        if name not in adapted.peft_config:
            adapted.add_adapter(name, CONFIG)
        adapted.set_adapter(name)
        train(adapted, data, steps)
    return adapted


@torch.no_grad()
def losses(model, tasks):
    """Return the loss of every task."""
    return {name: float(model(**data).loss) for name, data in tasks.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    base, encode = load(options.model)
    tasks = {"sums": rows(encode, SUMS), "spelling": rows(encode, SPELLING)}
    print(f"{'base':12}", {n: round(loss, 3) for n, loss in losses(base, tasks).items()})
    model = trained_apart(base, tasks, options.steps)
    for kind, how in KINDS.items():
        torch.manual_seed(0)  # dare drops entries at random
        model.add_weighted_adapter(list(tasks), [1.0] * len(tasks), kind, combination_type=kind, **how)
    for name in (*tasks, *KINDS):
        model.set_adapter(name)
        print(f"{name:12}", {n: round(loss, 3) for n, loss in losses(model, tasks).items()})


if __name__ == "__main__":
    main()
