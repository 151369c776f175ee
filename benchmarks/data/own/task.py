"""Write an lm-eval task of documents that were found in files, and say what was found."""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data.documents import same_text, text_hash
from benchmarks.data.own.fields import Document, Fields, found, is_template
from benchmarks.data.own.reading import TRAINING, pair, read
from results.files import write_whole

PREFIX = "own_"  # no task of lm-eval's is named so
HELD_BACK_ONE_IN = 5  # texts of a single file: one in so many is evaluated
SHOWN_LABELS = 8


@dataclass(frozen=True)
class OwnTask:
    """A task made of files of one's own."""

    name: str
    train: tuple[Document, ...]
    test: tuple[Document, ...]
    labels: tuple[str, ...] | None  # the same for all documents; None: each has choices of its own
    answers: str  # how they are written
    bare: bool  # whether the text is asked as it is; else with "Answer:" behind it
    cut: bool  # whether the test documents were taken out of the training file

    def write(self, folder: Path) -> Path:
        """Write the task's file and its documents into a folder of `folder` that is named by its content."""
        parts = {name: _lines(docs) for name, docs in (("train", self.train), ("test", self.test))}
        text = json.dumps(self.settings(), indent=1, ensure_ascii=False) + "\n"  # JSON is YAML
        place = folder.resolve() / f"{self.name}-{text_hash(''.join((text, *parts.values())))[:12]}"
        place.mkdir(parents=True, exist_ok=True)
        for name, lines in parts.items():
            write_whole(place / f"{name}.jsonl", lines)
        write_whole(place / f"{self.name}.yaml", text)
        return place

    def settings(self) -> dict[str, object]:
        """Return what the task's file says, in lm-eval's words."""
        metrics = ("acc",) if self.labels else ("acc", "acc_norm")  # by length where choices differ in it
        return {
            "task": self.name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"train": "train.jsonl", "test": "test.jsonl"}},
            "training_split": "train",
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{text}}" if self.bare else "{{text}}\nAnswer:",
            "doc_to_choice": "choices",
            "doc_to_target": "answer",
            "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in metrics],
            "metadata": {"version": 1},
        }

    def summary(self) -> list[str]:
        """Say in lines what was found: documents, answers, lengths, duplicates, what stands on both sides."""
        parts = {"to train on": self.train, "to evaluate on": self.test}
        lines = [
            "documents: " + ", ".join(f"{len(docs):,} {use}" for use, docs in parts.items())
            + (f" (one text in {HELD_BACK_ONE_IN} held back: no --test)" if self.cut else ""),
            f"answers ({self.answers}): " + "; ".join(f"{use} {self._shares(docs)}" for use, docs in parts.items()),
            "characters of a text: "
            + "; ".join(f"{use} {_lengths([len(d.text) for d in docs])}" for use, docs in parts.items()),
        ]  # fmt: skip
        for use, docs in parts.items():
            texts = Counter(map(_asked, docs))
            answers = {(_asked(d), d.choices[d.answer]) for d in docs}
            if more := len(docs) - len(texts):
                torn = len(answers) - len(texts)
                lines.append(f"duplicates {use}: {more:,}" + (f", {torn:,} with another answer" if torn else ""))
        if shared := self.shared():
            lines.append(
                f"both trained and evaluated on: {len(shared):,} documents to train on have the text of one to "
                f"evaluate on; the first: {shared[0].place}. They are left out of training where the answer is the same"
            )
        return lines

    def shared(self) -> list[Document]:
        """List the training documents that ask what an evaluation document asks."""
        evaluated = set(map(_asked, self.test))
        return [doc for doc in self.train if _asked(doc) in evaluated]

    def _shares(self, docs: Sequence[Document]) -> str:
        names = [d.choices[d.answer] if self.labels else f"choice {d.answer + 1}" for d in docs]
        counts = Counter(names).most_common()
        shown = [f"{name} {count / len(docs):.0%}" for name, count in counts[:SHOWN_LABELS]]
        return ", ".join([*shown, *([f"{len(counts) - SHOWN_LABELS} more"] if len(counts) > SHOWN_LABELS else [])])


def make(data: Path, test: Path | None, fields: Fields) -> OwnTask:
    """Make a task of a file or folder. Raises ValueError naming file, line and the way out."""
    training, evaluation = pair(data.expanduser(), test and test.expanduser())
    rows = read(training)
    count = len(rows)
    documents, labels, answers = found(rows + (read(evaluation) if evaluation else []), fields)
    train, held = tuple(documents[:count]), tuple(documents[count:])
    if evaluation is None:
        held = tuple(d for d in train if _is_held_back(d))
        train = tuple(d for d in train if not _is_held_back(d))
        if not train or not held:
            raise ValueError(f"{training}: {count} documents are too few to cut in two; give more, or a --test")
    unseen = {d.answer for d in held} - {d.answer for d in train}
    if labels and unseen:
        raise ValueError(f"{training}: no document is answered {labels[min(unseen)]!r}, which evaluation asks for")
    return OwnTask(_name(training), train, held, labels, answers, is_template(fields.text), evaluation is None)


def _name(file: Path) -> str:
    stem = file.stem if file.stem.lower() not in TRAINING else file.resolve().parent.name
    return PREFIX + (re.sub(r"\W+", "_", stem.lower()).strip("_") or "data")


def _asked(doc: Document) -> str:
    return same_text("\n".join((doc.text, *doc.choices)))


def _is_held_back(doc: Document) -> bool:
    return int(text_hash(_asked(doc))[:8], 16) % HELD_BACK_ONE_IN == 0


def _lines(docs: Sequence[Document]) -> str:
    rows = ({"text": d.text, "choices": list(d.choices), "answer": d.answer} for d in docs)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _lengths(sizes: Sequence[int]) -> str:
    return f"{statistics.median_low(sizes):,} (median), {max(sizes):,} (longest)"
