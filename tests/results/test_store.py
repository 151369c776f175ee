"""The store keeps whole records or none, whatever happens on the way."""

from __future__ import annotations

import dataclasses
import errno
import json
import multiprocessing
import os
from pathlib import Path

import pytest
from synthetic_records import make_failed, make_record

import results.store
from results.record import Record, RecordError
from results.store import RECORDS, SCRATCH, Store, StoreError, folder_path, publish, read

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "records")


def test_a_saved_record_is_loaded_equal(store):
    record = make_record("lora-smoe", layers=2)
    path = store.save(record)
    assert path.name == f"{record.key}.json"
    assert store.load(record.key) == Record.from_json(json.loads(json.dumps(record.to_json())))
    assert store.find(record.spec).scores["boolq"].outcomes == record.scores["boolq"].outcomes
    assert store.set_aside == []


def test_a_failed_record_is_loaded_but_never_found(store):
    failed = make_failed("lora")
    store.save(failed)
    assert store.load(failed.key).error == failed.error
    assert store.find(failed.spec) is None
    done = make_record("lora")
    assert done.key == failed.key
    store.save(done)
    assert store.find(failed.spec).status == "done"


def test_what_was_never_saved_is_none_and_a_missing_folder_is_empty(store):
    assert store.load("x") is None and store.find(make_record().spec) is None and store.all() == []


def test_all_is_sorted_by_key(store):
    for method in ("molora", "adalora", "lora"):
        store.save(make_record(method, layers=1))
    keys = [r.key for r in store.all()]
    assert keys == sorted(keys) and len(keys) == 3


def test_reading_renames_nothing_and_names_what_is_no_record(store):
    path = store.save(make_record("lora"))
    text = path.read_text()[:200]
    path.write_text(text)
    foreign = store.folder / "notes.json"
    foreign.write_text("{}")
    with pytest.warns(UserWarning, match="passed over"):
        assert store.all() == [] and store.load(path.stem) is None and store.find(make_record("lora").spec) is None
    assert {p.name: p.read_text() for p in store.folder.iterdir()} == {path.name: text, "notes.json": "{}"}
    assert [p for p, _ in store.unreadable] == [path] and store.set_aside == []


def test_who_writes_a_record_sets_aside_what_stands_in_its_place_and_never_overwrites(store):
    record = make_record("lora")
    path = store.path(record.key)
    store.folder.mkdir()
    for content in ("first", "second", "third"):
        path.write_text(content)
        with pytest.warns(UserWarning, match="set aside"):
            store.save(record)
    broken = {p.name: p.read_text() for p in store.folder.iterdir() if p != path}
    assert broken == {f"{path.name}.broken{n}": text for n, text in (("", "first"), (1, "second"), (2, "third"))}
    assert store.load(record.key) == record and [p.name for p, _ in store.set_aside] == sorted(broken)


def test_a_readable_record_is_replaced_without_a_trace(store):
    record = make_record("lora")
    store.save(record)
    store.save(dataclasses.replace(record, facts={"new": 1}))
    assert os.listdir(store.folder) == [f"{record.key}.json"] and store.load(record.key).facts == {"new": 1}


@pytest.mark.parametrize(
    "edit",
    [
        lambda body: body["scores"]["boolq"].update(value=0.99),
        lambda body: body["spec"].update(seed=7),
        lambda body: body.pop("costs"),
        lambda body: body.update(schema=99),
        lambda body: body["spec"].update(tasks=5),
        lambda body: body["environment"].update(git_dirty=True),
        lambda body: body.pop("digest"),
    ],
)
def test_a_hand_edited_file_is_no_record(store, edit):
    record = make_record("lora")
    path = store.save(record)
    body = json.loads(path.read_text())
    edit(body)
    path.write_text(json.dumps(body))
    with pytest.warns(UserWarning, match="passed over"):
        assert store.find(record.spec) is None
    assert [p for p, _ in store.unreadable] == [path]


KEY = "commonsense--tiny--lora--s0--0123abcd"


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00", b"", b"[]", b"null", b'{"schema": 1}', b"[" * 100_000, b'{"a":' * 100_000, b'{"schema": NaN}'],
    ids=["no text", "empty", "list", "null", "schema alone", "deep list", "deep object", "nan"],
)
def test_rubbish_is_passed_over_without_a_crash(store, content):
    store.folder.mkdir()
    (store.folder / f"{KEY}.json").write_bytes(content)
    with pytest.warns(UserWarning, match="is passed over"):
        assert store.all() == []
    with pytest.raises(RecordError):
        read(store.folder / f"{KEY}.json")


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_a_folder_or_a_pipe_of_a_record_s_name_neither_stops_nor_hangs(store, kind):
    store.folder.mkdir()
    record = make_record("lora")
    path = store.path(record.key)
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.warns(UserWarning, match="not a regular file"):
        assert store.all() == [] and store.find(record.spec) is None
    with pytest.warns(UserWarning, match="set aside"):
        store.save(record)
    assert store.load(record.key) == record


def test_a_record_under_another_name_is_passed_over(store):
    path = store.save(make_record("lora"))
    path.rename(path.with_name(f"{KEY}.json"))
    with pytest.warns(UserWarning, match="holds the record"):
        assert store.all() == []


def test_a_record_of_schema_1_is_listed_and_loaded_but_never_answers_a_new_spec(store):
    store.folder.mkdir()
    (file, *_) = sorted(FIXTURES.glob("*.json"))
    (store.folder / file.name).write_bytes(file.read_bytes())
    (record,) = store.all()
    assert record.key == file.stem and record.schema == 1 and store.load(file.stem) == record
    assert store.find(record.spec) is None
    spec = dataclasses.replace(record.spec)
    (store.folder / file.name).rename(store.path(spec.key))  # not even under the key that its spec has today
    with pytest.warns(UserWarning, match="is passed over"):
        assert store.find(spec) is None
    with pytest.raises(RecordError, match="stays as it was written"):
        store.save(record)


def test_a_number_that_is_none_is_not_written_and_its_field_is_named(store):
    record = make_record("lora")
    for changes, field in (
        ({"facts": {"router": {"a": [1.0, float("nan")]}}}, r"facts.router.a\[1\]"),
        ({"data": {"boolq": {"x": float("inf")}}}, "data.boolq.x"),
        ({"environment": {"load_average": [float("-inf")]}}, "environment.load_average"),
    ):
        with pytest.raises(RecordError, match=field):
            store.save(dataclasses.replace(record, **changes))
    assert not store.folder.exists()


@pytest.mark.parametrize("key", ["x", "../records/x", "../../a--b--c--s0--01234567", "a--b--c--s0--0123456g"])
def test_only_names_of_records_are_looked_for(store, key):
    store.folder.mkdir()
    path = store.path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    assert store.load(key) is None and store.unreadable == []  # not even opened


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_name_is_no_folder(text):
    with pytest.raises(ValueError, match="an empty name is no folder"):
        folder_path(text)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_earlier_record_and_no_rubbish(store, monkeypatch, call):
    record = make_record("lora")
    path = store.save(record)
    before = path.read_bytes()

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(results.store.os, call, full)
    with pytest.raises(StoreError, match=r"No space left.*--out"):
        store.save(dataclasses.replace(record, facts={"new": 1}))
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(store.folder) == [path.name]


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/records"):
        Store(tmp_path / "file" / "records").check_writable()
    Store(tmp_path / "new" / "deep").check_writable()
    assert list((tmp_path / "new" / "deep").iterdir()) == []


def _save_often(folder, facts):
    for i in range(20):
        Store(folder).save(dataclasses.replace(make_record("lora"), facts={"writer": facts, "i": [i] * 2000}))


def test_two_processes_may_save_one_record_at_once(store):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_save_often, args=(store.folder, n)) for n in range(2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert all(len(r.facts["i"]) == 2000 for r in store.all())
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert len(store.all()) == 1 and store.set_aside == []
    assert len(os.listdir(store.folder)) == 1


def test_a_dirty_run_is_refused_among_the_committed_records(tmp_path, monkeypatch):
    dirty = make_record("lora", env={"git_dirty": True})
    with pytest.raises(StoreError, match="uncommitted"):
        publish(dirty, tmp_path)
    monkeypatch.setattr(results.store, "RECORDS", tmp_path)
    with pytest.raises(StoreError, match="uncommitted"):
        Store(tmp_path).save(dirty)
    assert list(tmp_path.iterdir()) == []
    assert publish(make_record("lora"), tmp_path).exists()


@pytest.mark.parametrize("dirty", [True, False, None])
def test_uncommitted_code_is_refused_before_anything_runs(tmp_path, monkeypatch, dirty):
    monkeypatch.setattr(results.store, "git_state", lambda root: ("c0ffee", dirty))
    Store(tmp_path).check_writable()  # any other folder takes what it is given
    monkeypatch.setattr(results.store, "RECORDS", tmp_path)
    if dirty is not False:
        told = "what runs now is measured with uncommitted code.*commit first" if dirty else "of no known commit"
        with pytest.raises(StoreError, match=told):
            Store(tmp_path).check_writable()
    else:
        Store(tmp_path).check_writable()


def test_the_two_homes_are_beside_the_package():
    assert RECORDS.parent.parent == SCRATCH.parent and RECORDS.parent.name == "records" and SCRATCH.name == "scratch"
