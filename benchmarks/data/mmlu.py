"""MMLU by group of subjects: one task a group, which lm-eval gives as an average over 13 to 19 tasks.

Its documents are those of the group's subjects and its prompts lm-eval's own (`mmlu_<subject>` without examples), so
its accuracy is what lm-eval's group of that name reports (`weight_by_size`), and four tasks stand in a table, not 57.
The groups (mmlu.yaml) are lm-eval's tags `mmlu_<group>_tasks`. The functions below are `process_docs` of the tasks'
files, for whoever runs them under lm-eval itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

SUBJECTS: Mapping[str, tuple[str, ...]] = {
    group: tuple(subjects)
    for group, subjects in yaml.safe_load((Path(__file__).parent / "mmlu.yaml").read_text(encoding="utf-8")).items()
}


def of(group: str, docs: Any) -> Any:
    """Keep the documents of a data set whose subject is one of the group's."""
    return docs.filter(lambda doc: doc["subject"] in SUBJECTS[group], load_from_cache_file=False)


stem = partial(of, "stem")
humanities = partial(of, "humanities")
social_sciences = partial(of, "social_sciences")
other = partial(of, "other")
