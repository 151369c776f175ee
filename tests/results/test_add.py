"""Somebody else's records are checked before any of them is taken, and stay marked as contributed."""

from __future__ import annotations

import dataclasses
import json
import lzma
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_records import make_record, make_run

from results.pack import write_pack
from results.store import Store

ROOT = Path(__file__).resolve().parents[2]


def add(folder, to):
    command = [sys.executable, "-m", "results", "add", str(folder), "--to", str(to)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture
def sent(tmp_path):
    store = Store(tmp_path / "sent")
    for record in make_run(("lora", "dora"), layers=1, count=4):
        store.save(record)
    return store.folder


def test_records_are_added_once_and_marked_as_contributed(sent, tmp_path):
    done = add(sent, tmp_path / "to")
    assert done.returncode == 0 and "2 records added" in done.stdout, done.stderr
    added = Store(tmp_path / "to").all()
    assert [record.contributed for record in added] == [True, True]
    assert [dataclasses.replace(r, contributed=False) for r in added] == Store(sent).all()
    assert "0 records added" in add(sent, tmp_path / "to").stdout


def test_a_pack_is_added_like_files(sent, tmp_path):
    bodies = {path.stem: json.loads(path.read_text()) for path in sent.glob("*.json")}
    write_pack(bodies, tmp_path / "packed" / "all.jsonl.xz")
    assert add(tmp_path / "packed", tmp_path / "to").returncode == 0
    assert {r.key for r in Store(tmp_path / "to").all()} == bodies.keys()


def test_one_record_that_cannot_be_taken_stops_all_and_every_reason_is_named(sent, tmp_path):
    Store(sent).save(make_record("molora", layers=1, env={"git_dirty": True}))
    Store(sent).save(make_record("mola", layers=1, env={"git_dirty": None}))
    edited = next(sent.glob("*dora*.json"))
    edited.write_text(edited.read_text().replace("openbookqa", "openbookqb"))
    before = sorted(path.name for path in sent.iterdir())
    done = add(sent, tmp_path / "to")
    assert done.returncode == 2 and not (tmp_path / "to").exists()
    assert "digest" in done.stderr and done.stderr.count("in no commit") == 2 and "Traceback" not in done.stderr
    assert sorted(path.name for path in sent.iterdir()) == before


def test_records_of_the_first_version_are_refused(tmp_path):
    with lzma.open(ROOT / "results" / "records" / "main" / "earlier.jsonl.xz", "rt", encoding="utf-8") as pack:
        old = next(line for line in pack if json.loads(line).get("schema") == 1)
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent" / f"{json.loads(old)['key']}.json").write_text(old)
    done = add(tmp_path / "sent", tmp_path / "to")
    assert done.returncode == 2 and "schema 1" in done.stderr


def test_another_measurement_under_a_key_that_is_taken_is_refused(sent, tmp_path):
    assert add(sent, tmp_path / "to").returncode == 0
    record = Store(sent).all()[0]
    Store(sent).save(dataclasses.replace(record, losses=(1.0, 2.0)))
    done = add(sent, tmp_path / "to")
    assert done.returncode == 2 and f"{record.key}: " in done.stderr and "another measurement" in done.stderr


def test_a_folder_without_records_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        done = add(folder, tmp_path / "to")
        assert done.returncode == 2 and "no record there" in done.stderr
