"""The eight commonsense tasks of LLM-Adapters, DoRA, MoLA and LoRA-SMoE, asked as lm-eval or as LLM-Adapters does."""

from benchmarks.suites import Suite

COMMONSENSE = Suite(
    name="commonsense",
    summary="eight commonsense tasks",
    tasks=(
        "boolq",
        "piqa",
        "social_iqa",
        "hellaswag",
        "winogrande",
        "arc_easy",
        "arc_challenge",
        "openbookqa",
    ),
    headline={
        "boolq": "acc",
        "piqa": "acc_norm",
        "social_iqa": "acc",
        "hellaswag": "acc_norm",
        "winogrande": "acc",
        "arc_easy": "acc_norm",
        "arc_challenge": "acc_norm",
        "openbookqa": "acc_norm",
    },
)
