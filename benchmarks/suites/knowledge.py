"""What a model knows: school science, common sense by letter, and MMLU by group of subjects (data/mmlu.py)."""

from benchmarks.suites import Suite

KNOWLEDGE = Suite(
    name="knowledge",
    summary="SciQ, CommonsenseQA and the four groups of MMLU, log-likelihood of the choices",
    tasks=(
        "sciq",
        "commonsense_qa",
        "mmlu_stem_pooled",
        "mmlu_humanities_pooled",
        "mmlu_social_sciences_pooled",
        "mmlu_other_pooled",
    ),
    headline={
        "sciq": "acc_norm",
        "commonsense_qa": "acc",
        "mmlu_stem_pooled": "acc",
        "mmlu_humanities_pooled": "acc",
        "mmlu_social_sciences_pooled": "acc",
        "mmlu_other_pooled": "acc",
    },
)
