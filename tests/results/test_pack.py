"""A pack holds the records of a campaign as they were written, and a store reads it like files."""

from __future__ import annotations

import csv
import json
import lzma
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_records import make_failed, make_record, make_run

from results.pack import write_pack
from results.record import RecordError
from results.store import Store, read_packed

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = Path(__file__).parent / "fixtures"


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "results", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture
def packed(tmp_path):
    """(records, folder with their files, folder with their pack alone)."""
    loose, pack = tmp_path / "loose", tmp_path / "packed"
    records = [*make_run(layers=1), make_failed("dora")]
    for record in records:
        Store(loose).save(record)
    (loose / "notes.json").write_text("{}")
    done = command("pack", str(loose), "--to", str(pack / "all.jsonl.xz"))
    assert done.returncode == 0, done.stderr
    assert "6 records in" in done.stdout
    return records, loose, pack


def test_a_store_reads_a_pack_as_it_reads_files(packed):
    records, loose, pack = packed
    store = Store(pack)
    assert store.all() == Store(loose).all() and len(store.all()) == len(records) and not store.unreadable
    for record in records:
        assert store.load(record.key) == Store(loose).load(record.key)
        assert store.find(record.spec) == Store(loose).find(record.spec)
    assert store.load("x") is None


def test_a_file_goes_before_a_pack(packed):
    _, _, pack = packed
    failed = make_failed("lora")
    Store(pack).save(failed)
    assert Store(pack).load(failed.key).status == "failed"


def test_the_index_names_every_record(packed):
    records, _, pack = packed
    rows = list(csv.DictReader((pack / "all.csv").read_text().splitlines()))
    assert [row["key"] for row in rows] == sorted(r.key for r in records)
    assert {row["method"]: row["status"] for row in rows}["dora"] == "failed"
    assert all(len(row["digest"]) == 16 and row["schema"] == "2" for row in rows)


def test_a_spreadsheet_runs_no_cell_of_the_index(tmp_path):
    path = Store(tmp_path).save(make_record("lora", layers=1, model="=HYPERLINK(1)"))
    index = write_pack({path.stem: json.loads(path.read_text())}, tmp_path / "x.jsonl.xz")
    (row,) = csv.DictReader(index.read_text().splitlines())
    assert row["model"] == "'=HYPERLINK(1)" and row["seed"] == "0"


def test_the_same_records_make_the_same_bytes_and_schema_1_stays_as_it_was(tmp_path):
    bodies = {f.stem: json.loads(f.read_text()) for f in FIXTURES.glob("*.json")}
    for name in ("a", "b"):
        write_pack(bodies, tmp_path / name / "x.jsonl.xz")
    data = (tmp_path / "a" / "x.jsonl.xz").read_bytes()
    assert data == (tmp_path / "b" / "x.jsonl.xz").read_bytes()
    lines = [json.loads(line) for line in lzma.decompress(data).splitlines()]
    assert {line["key"]: line for line in lines} == bodies
    assert {r.key: r.schema for r in Store(tmp_path / "a").all()} == dict.fromkeys(bodies, 1)


@pytest.mark.parametrize(
    "content",
    [b"", b"no pack", lzma.compress(b"{}\n"), lzma.compress(b"[" * 100_000), lzma.compress(b"{}\n" * 9)[:-9]],
    ids=["empty", "text", "no record", "deep", "cut"],
)
def test_a_broken_pack_is_named_and_stops_nothing(tmp_path, content):
    record = make_record("lora", layers=1)
    Store(tmp_path).save(record)
    (tmp_path / "x.jsonl.xz").write_bytes(content)
    with pytest.raises(RecordError):
        list(read_packed(tmp_path / "x.jsonl.xz")) or pytest.fail("nothing was said")
    with pytest.warns(UserWarning, match="x.jsonl.xz"):
        assert Store(tmp_path).all() == [record]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pack", "", "--to", "x.jsonl.xz"], "invalid"),
        (["pack", "results/records", "--to", "x.jsonl.xz"], "no record there"),
        (["pack", "results/records/baseline", "--to", "/tmp/x.json"], "ends in .jsonl.xz"),
    ],
)
def test_what_cannot_be_packed_is_refused_with_status_2(arguments, said):
    done = command(*arguments)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
