"""Files of one's own become a task: every form of file, choices and answer; what is wrong is named by file and line."""

from __future__ import annotations

import csv
import json

import datasets
import pytest

from benchmarks.data.own.fields import Fields
from benchmarks.data.own.task import make
from benchmarks.data.sources import splits
from benchmarks.data.tasks import OWN, task_objects, task_requests, training_pairs

ROWS = [
    {"q": f"Is {i} even?", "a": "yes", "b": "no", "both": ["yes", "no"], "right": "no" if i % 2 else "yes"}
    for i in range(20)
]


def write(file, rows):
    if file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif file.suffix == ".json":
        file.write_text(json.dumps(rows))
    elif file.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(file)
    else:
        with file.open("w", newline="") as opened:
            table = csv.writer(opened, delimiter="\t" if file.suffix == ".tsv" else ",")
            table.writerow(rows[0])
            table.writerows([[json.dumps(v) if isinstance(v, list) else v for v in row.values()] for row in rows])
    return file


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_every_kind_of_file_gives_the_same_task(tmp_path, ending):
    train, test = write(tmp_path / f"train.{ending}", ROWS[:14]), write(tmp_path / f"test.{ending}", ROWS[14:])
    task = make(train, test, Fields("q", "both", "right"))
    assert [(d.text, d.choices, d.answer) for d in task.train] == [
        (row["q"], ("yes", "no"), i % 2) for i, row in enumerate(ROWS[:14])
    ]
    assert [d.text for d in make(tmp_path, None, Fields("q", "both", "right")).test] == [r["q"] for r in ROWS[14:]]


@pytest.mark.parametrize(
    ("choices", "answers", "how"),
    [
        ("both", {"yes": "yes", "no": "no"}, "the text of a choice"),
        ("a,b", {"yes": "yes", "no": "no"}, "the text of a choice"),
        ("a,b", {"yes": "a", "no": "b"}, "the name of a field"),
        ("yes,no", {"yes": 0, "no": 1}, "a number from 0"),
        ("yes,no", {"yes": 1, "no": 2}, "a number from 1"),
        ("yes,no", {"yes": "A", "no": "B"}, "a letter"),
    ],
)
def test_choices_and_answers_are_read_in_every_usual_form(tmp_path, choices, answers, how):
    file = write(tmp_path / "questions.jsonl", [{**row, "right": answers[row["right"]]} for row in ROWS])
    task = make(file, file, Fields("q", choices, "right"))
    assert task.answers == how and [d.answer for d in task.train] == [i % 2 for i in range(20)]
    assert {d.choices for d in task.train} == {("yes", "no")} and task.name == "own_questions"


def test_without_choices_the_answers_that_there_are_become_labels_and_a_text_may_hold_fields(tmp_path):
    task = make(write(tmp_path / "x.jsonl", ROWS), None, Fields("{{q}} ({{a}} or {{b}}) ", None, "right"))
    assert task.labels == ("no", "yes") and task.cut and len(task.train) + len(task.test) == 20 and task.test
    assert task.train[0].text.endswith("? (yes or no)") and task.settings()["doc_to_text"] == "{{text}}"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"train.jsonl, line 3: no JSON"),
        ("[1]", r"train.jsonl, line 3: expected an object of fields, found \[1\]"),
        ('{"question": "?", "both": ["a", "b"], "right": "a"}', "line 3: unknown field for --text 'q'"),
        ('{"q": " ", "both": ["a", "b"], "right": "a"}', r"line 3: field 'q' \(--text\) is empty"),
        ('{"q": ["?"], "both": ["a", "b"], "right": "a"}', r"line 3: field 'q' \(--text\) is no text"),
        ('{"q": "?", "both": "a", "right": "a"}', r"line 3: field 'both' \(--choices\) is no list of texts"),
        ('{"q": "?", "both": ["a", "a"], "right": "a"}', "line 3: expected two or more different choices"),
        ('{"q": "?", "both": ["a", "b"], "right": "c"}', "line 3: the answer 'c' .* is none of the choices"),
        ('{"q": "?", "both": ["a", "b"], "right": null}', r"line 3: field 'right' \(--answer\) is empty"),
    ],
)
def test_what_is_wrong_with_a_document_is_named_by_file_and_line(tmp_path, line, message):
    good = '{"q": "Is it?", "both": ["a", "b"], "right": "a"}\n'
    (tmp_path / "train.jsonl").write_text(f"{good}\n{line}\n{good}")
    with pytest.raises(ValueError, match=message):
        make(tmp_path / "train.jsonl", None, Fields("q", "both", "right"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.csv", "q,right\n1,2\n3\n", "train.csv, line 3: 1 cells under 2 columns"),
        ("train.csv", "q,q\n1,2\n", "line 1: two columns are named 'q'"),
        ("train.txt", "q", "expected a file that ends in .jsonl"),
        ("train.parquet", "q", "no Parquet that can be read"),
        ("train.jsonl", "", "no document in it"),
        ("train.jsonl", b"\xff\xfe", "byte 0 is not UTF-8"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        make(tmp_path / name, None, Fields("q", None, "right"))


def test_labels_beside_fields_too_many_answers_and_a_label_never_trained_are_refused(tmp_path):
    file = write(tmp_path / "train.jsonl", ROWS)
    for choices, answer, message in [
        ("a,maybe", "right", "some of these are fields and 'maybe' is none"),
        (None, "a", "has 1 different answers, and 2 to 26 can be labels"),
        ("yes,yes", "right", "expected different labels"),
    ]:
        with pytest.raises(ValueError, match=message):
            make(file, file, Fields("q", choices, answer))
    other = write(tmp_path / "test.jsonl", [{**ROWS[0], "right": "maybe"}])
    with pytest.raises(ValueError, match="no document is answered 'maybe', which evaluation asks for"):
        make(file, other, Fields("q", None, "right"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no file train\.jsonl.* in this folder, which holds nothing"):
        make(tmp_path / "empty", None, Fields("q", None, "right"))


def test_duplicates_and_what_stands_on_both_sides_are_counted(tmp_path):
    train = write(tmp_path / "train.jsonl", [*ROWS[:14], ROWS[0], {**ROWS[1], "right": "yes"}, ROWS[15]])
    task = make(train, write(tmp_path / "test.jsonl", ROWS[14:]), Fields("q", "both", "right"))
    said = "\n".join(task.summary())
    assert "17 to train on, 6 to evaluate on" in said and "duplicates to train on: 2, 1 with another answer" in said
    assert "1 documents to train on have the text of one to evaluate on; the first: train.jsonl, line 17" in said


def test_lm_eval_reads_the_task_as_it_is_asked_and_trained_and_content_names_its_folder(tmp_path, monkeypatch):
    train, test = write(tmp_path / "train.jsonl", ROWS[:14]), write(tmp_path / "test.jsonl", ROWS[14:])
    task = make(train, test, Fields("q", "both", "right"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv(OWN, str(folder := task.write(tmp_path / "tasks")))
    assert task.write(tmp_path / "tasks") == folder != make(test, train, Fields("q", "both", "right")).write(tmp_path)
    split = splits("embedded", (task.name,))[task.name]
    made = task_objects({task.name: split})[task.name]
    pairs = training_pairs(made, list(split["train"]))
    assert sorted(pairs) == sorted((f"{row['q']}\nAnswer:", f" {row['right']}") for row in ROWS[:14])
    assert [r.args[1] for r in task_requests(made, split["evaluate"][0])] == [" yes", " no"]
