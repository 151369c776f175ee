"""Data of one's own: identity by content, features kept, files beside the task, nothing dropped or scored unsaid."""

from __future__ import annotations

import datetime
import json

import datasets
import PIL.Image
import pytest
from own_task import rows, write_task

from benchmarks.data import sources
from benchmarks.data.documents import content, fingerprint, same_text
from benchmarks.data.tasks import OWN, task_objects
from benchmarks.jobs.session import check_outside
from benchmarks.plan import custom

PARQUET = "dataset_path: parquet\ndataset_kwargs: {data_files: {train: a.parquet, test: b.parquet}}\n"


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv(OWN, str(tmp_path / "own"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "own"


def read():
    return sources.splits("embedded", ("t",))["t"]


def test_documents_with_images_have_one_hash_in_every_process_and_leaks_are_found(folder):
    features = datasets.Features(
        {"q": datasets.Value("string"), "choices": datasets.List(datasets.Value("string")),
         "gold": datasets.Value("int64"), "image": datasets.Image()}
    )  # fmt: skip
    write_task(folder, extra=PARQUET)
    for name, count in (("a", 40), ("b", 10)):
        documents = [r | {"image": PIL.Image.new("RGB", (2, 2), (i, 0, 0))} for i, r in enumerate(rows(count))]
        datasets.Dataset.from_list(documents, features=features).to_parquet(folder / f"{name}.parquet")
    split = read()
    assert len(split["train"]) == 30 and split.dropped == 10
    assert isinstance(split["train"][0]["image"], PIL.Image.Image)  # as the task's own code reads it
    stored = {"q": "a", "image": {"bytes": b"\x00\x01", "path": None}}
    assert fingerprint(stored) == "5f43ce6d8b63" != fingerprint(stored | {"image": {"bytes": b"\x00", "path": None}})


def test_what_has_no_content_is_refused_by_column_and_dates_are_kept():
    with pytest.raises(ValueError, match="column 'image': a Image has no content that can be hashed"):
        fingerprint({"q": "a", "image": PIL.Image.new("RGB", (2, 2))})
    assert content({"day": datetime.date(2020, 1, 2)}) == '{"day": "2020-01-02"}'


@pytest.mark.parametrize(
    ("one", "other"), [("x = -3", "x = 3"), ("C++", "C#"), ("कि", "की"), ("a / b", "a * b"), ("1.5", "15")]
)
def test_signs_symbols_and_vowel_signs_tell_two_documents_apart(one, other):
    assert same_text(one) != same_text(other)


def test_case_width_and_spaces_do_not():
    assert same_text("The  ＡＢＣ\n is") == same_text("the abc is")


def test_look_alikes_are_not_dropped_and_what_is_dropped_is_counted(folder):
    sums = [(a, o, b) for a in range(9) for b in range(5) for o in "+-*"]
    train = [{"q": f"{a} {o} {b} =", "choices": ["1", "2"], "gold": 0} for a, o, b in sums]
    test = [{"q": f"{a} / {b} =", "choices": ["1", "2"], "gold": 0} for a in range(1, 9) for b in range(5)]
    write_task(folder, train, test)
    assert len(read()["train"]) == 135 and read().dropped == 0


def test_features_of_a_data_set_reach_the_tasks_own_code(folder):
    features = datasets.Features({"q": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    code = """def add(d):
    name = d.features['label'].int2str
    return d.map(lambda x: {'text': name(x['label'])})
"""
    extra = PARQUET + "process_docs: !function utils.add\ndoc_to_choice: [neg, pos]\ndoc_to_target: text\n"
    write_task(folder, extra=extra, code=code)
    for name, start in (("a", 0), ("b", 100)):
        documents = [{"q": f"Q {i}", "label": i % 2} for i in range(start, start + 40)]
        datasets.Dataset.from_list(documents, features=features).to_parquet(folder / f"{name}.parquet")
    docs = list(task_objects({"t": read()})["t"].eval_docs)
    assert {d["text"] for d in docs} == {"neg", "pos"}


def test_a_column_of_several_types_is_read_and_a_broken_file_refused_by_the_tasks_name(folder):
    write_task(folder, [r | {"meta": {"a": 1} if i % 2 else "x"} for i, r in enumerate(rows(40))])
    assert len(read()["train"]) == 40
    with (folder / "t-train.jsonl").open("a") as file:
        file.write('{"q": "cut')
    with pytest.raises(ValueError, match=r"task t: its data set cannot be read"):
        read()


def test_patterns_and_folders_are_read_beside_the_task_and_nowhere_else(folder, tmp_path):
    write_task(folder, extra="dataset_kwargs: {data_files: {train: data/tr-*.jsonl, test: data/te-*.jsonl}}\n")
    for place, first in ((folder / "data", 0), (tmp_path / "data", 1000)):
        place.mkdir(parents=True, exist_ok=True)
        for name, start in (("tr-0.jsonl", 0), ("te-0.jsonl", 100)):
            (place / name).write_text("".join(json.dumps(r) + "\n" for r in rows(20, start + first)))
    assert set(read()["train"]["q"]) == {f"Item {i} is" for i in range(20)}
    for file in (folder / "data").glob("*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"task t: no file data/tr-\*\.jsonl beside its own file"):
        read()


def test_a_column_that_no_evaluation_document_has_is_refused(folder):
    write_task(folder, None, [{k: v for k, v in r.items() if k != "q"} for r in rows(20, 100)])
    with pytest.raises(ValueError, match="task t: no evaluation document has the column 'q', which its file reads"):
        read()


def test_records_inside_the_folder_of_ones_own_tasks_are_refused(folder, tmp_path):
    write_task(folder)
    check_outside(tmp_path / "out")
    with pytest.raises(ValueError, match=r"lies in the folder of one's own tasks.*with --out"):
        check_outside(folder / "out")


def test_a_file_named_as_a_task_is_answered_in_one_line(folder):
    write_task(folder)
    with pytest.raises(ValueError, match="a file is no task; write a task that names it") as caught:
        custom.suite(("/data/train.jsonl",))
    assert len(str(caught.value)) < 300
    with pytest.raises(ValueError, match=r"unknown task 'qqqqqqqq'; known: .* and \d+ more") as caught:
        custom.suite(("qqqqqqqq",))
    assert len(str(caught.value)) < 2000
