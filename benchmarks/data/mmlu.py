"""MMLU by group of subjects: one task a group, which lm-eval gives as an average over 13 to 19 tasks.

Its documents are those of the group's subjects and its prompts lm-eval's own (`mmlu_<subject>` without examples), so
its accuracy is what lm-eval's group of that name reports (`weight_by_size`), and four tasks stand in a table, not 57.
The groups are lm-eval's tags `mmlu_<group>_tasks`. The functions below are `process_docs` of the tasks' files, for
whoever runs them under lm-eval itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

SUBJECTS: Mapping[str, tuple[str, ...]] = {
    "stem": (
        "abstract_algebra",
        "anatomy",
        "astronomy",
        "college_biology",
        "college_chemistry",
        "college_computer_science",
        "college_mathematics",
        "college_physics",
        "computer_security",
        "conceptual_physics",
        "electrical_engineering",
        "elementary_mathematics",
        "high_school_biology",
        "high_school_chemistry",
        "high_school_computer_science",
        "high_school_mathematics",
        "high_school_physics",
        "high_school_statistics",
        "machine_learning",
    ),
    "humanities": (
        "formal_logic",
        "high_school_european_history",
        "high_school_us_history",
        "high_school_world_history",
        "international_law",
        "jurisprudence",
        "logical_fallacies",
        "moral_disputes",
        "moral_scenarios",
        "philosophy",
        "prehistory",
        "professional_law",
        "world_religions",
    ),
    "social_sciences": (
        "econometrics",
        "high_school_geography",
        "high_school_government_and_politics",
        "high_school_macroeconomics",
        "high_school_microeconomics",
        "high_school_psychology",
        "human_sexuality",
        "professional_psychology",
        "public_relations",
        "security_studies",
        "sociology",
        "us_foreign_policy",
    ),
    "other": (
        "business_ethics",
        "clinical_knowledge",
        "college_medicine",
        "global_facts",
        "human_aging",
        "management",
        "marketing",
        "medical_genetics",
        "miscellaneous",
        "nutrition",
        "professional_accounting",
        "professional_medicine",
        "virology",
    ),
}


def of(group: str, docs: Any) -> Any:
    """The documents of a data set whose subject is one of the group's."""
    return docs.filter(lambda doc: doc["subject"] in SUBJECTS[group], load_from_cache_file=False)


stem = partial(of, "stem")
humanities = partial(of, "humanities")
social_sciences = partial(of, "social_sciences")
other = partial(of, "other")
