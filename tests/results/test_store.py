"""The store keeps whole records or none, whatever happens on the way."""

from __future__ import annotations

import dataclasses
import errno
import json
import multiprocessing
import os

import pytest
from synthetic_records import make_failed, make_record

import results.store
from results.record import Record
from results.store import RECORDS, SCRATCH, Store, StoreError, publish


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


def test_a_truncated_file_is_set_aside_and_its_text_kept(store):
    path = store.save(make_record("lora"))
    text = path.read_text()[:200]
    path.write_text(text)
    with pytest.warns(UserWarning, match="set aside"):
        assert store.all() == []
    assert not path.exists()
    (aside, reason) = store.set_aside[0]
    assert aside.name == f"{path.name}.broken" and aside.read_text() == text and reason


def test_setting_aside_never_overwrites(store):
    for content in ("first", "second", "third"):
        path = store.folder / "a.json"
        store.folder.mkdir(exist_ok=True)
        path.write_text(content)
        with pytest.warns(UserWarning):
            store.all()
    assert {p.name: p.read_text() for p in store.folder.iterdir()} == {
        "a.json.broken": "first",
        "a.json.broken1": "second",
        "a.json.broken2": "third",
    }


@pytest.mark.parametrize(
    "edit",
    [
        lambda body: body["scores"]["boolq"].update(value=0.99),
        lambda body: body["spec"].update(seed=7),
        lambda body: body.pop("costs"),
        lambda body: body.update(schema=99),
        lambda body: body["spec"].update(tasks=5),
        lambda body: body["environment"].update(git_dirty=True),
    ],
)
def test_a_hand_edited_file_is_set_aside(store, edit):
    record = make_record("lora")
    path = store.save(record)
    body = json.loads(path.read_text())
    edit(body)
    path.write_text(json.dumps(body))
    with pytest.warns(UserWarning, match="set aside"):
        assert store.find(record.spec) is None
    assert len(store.set_aside) == 1


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"[]", b"null", b'{"schema": 1}'])
def test_rubbish_is_set_aside_without_a_crash(store, content):
    store.folder.mkdir()
    (store.folder / "x.json").write_bytes(content)
    with pytest.warns(UserWarning):
        assert store.all() == []


def test_a_record_under_another_name_is_set_aside(store):
    path = store.save(make_record("lora"))
    path.rename(path.with_name("copy.json"))
    with pytest.warns(UserWarning, match="holds the record"):
        assert store.all() == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_earlier_record_and_no_rubbish(store, monkeypatch, call):
    record = make_record("lora")
    path = store.save(record)
    before = path.read_bytes()

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(results.store.os, call, full)
    with pytest.raises(StoreError, match="No space left.*--out"):
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
