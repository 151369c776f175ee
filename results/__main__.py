"""`python -m results`: add, merge and pack records, say what code this is, print the JSON Schema of a record."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from results.environment import commit_and_tree
from results.pack import PACKS, write_pack
from results.private import ROOT
from results.record import Record, json_schema
from results.spec import SCHEMA, RecordError
from results.store import Store, folder_path, publish, read, read_packed, record_files


def pack(folder: Path, file: Path) -> None:
    """Write every record file of a folder into one pack; the files stay. Raises ValueError or OSError."""
    files = record_files(folder)
    if not files:
        raise ValueError(f"{folder}: no record there")
    bodies = {read(path).key: json.loads(path.read_text(encoding="utf-8")) for path in files}
    print(f"{len(bodies)} records in {file} and {write_pack(bodies, file).name}")


CONTRIBUTED = ROOT / "results" / "records" / "contributed"


def add(folder: Path, to: Path = CONTRIBUTED) -> None:
    """Check somebody else's records, files and packs, and put them into `to`, marked as contributed.

    Nothing is written before all are checked. Refused are records that cannot be read, of an earlier schema, made by
    code that nobody can look up (uncommitted, or of no commit), or under a key that another measurement has. One that
    is there already is passed over. Raises ValueError naming every problem, or OSError.
    """
    records, problems = _checked(folder)
    store, new = Store(to), []
    for record in records:
        taken = store.load(record.key)
        if taken is None:
            new.append(record)
        elif taken != record:
            problems.append(f"{record.key}: {to} has another measurement of it")
    if problems:
        raise ValueError("nothing was added:\n" + "\n".join(problems))
    for record in new:
        publish(record, to)
    print(f"{len(new)} records added to {to}; {len(records) - len(new)} were there already")


def merge(folders: Sequence[Path], to: Path) -> None:
    """Put the records of several stores, files and packs, into the folder `to`, which may be one of them.

    A finished record goes before a failed one of its key. Nothing is written before all are read. Raises ValueError
    naming every file that is no record and every key that two stores have different finished records of, or OSError.
    """
    found: dict[str, tuple[Record, Path]] = {}
    problems: list[str] = []
    for folder in folders:
        store = Store(folder)
        if not (records := store.all()) and not store.unreadable:
            problems.append(f"{folder}: no record there")
        problems += [f"{path}: {reason}" for path, reason in store.unreadable]
        for record in records:
            other, where = found.get(record.key, (None, folder))
            if other is None or (other.status, record.status) == ("failed", "done"):
                found[record.key] = record, folder
            elif other.status == record.status == "done" and other != record:
                problems.append(f"{record.key}: {where} and {folder} have different measurements of it; keep one")
    if problems:
        raise ValueError("nothing was merged:\n" + "\n".join(problems))
    store, written = Store(to), 0
    for record, _ in found.values():
        if store.load(record.key) != record:
            store.save(record)
            written += 1
    print(f"{len(found)} records of {len(folders)} folders in {to}, {written} of them written now")


def _checked(folder: Path) -> tuple[list[Record], list[str]]:
    """Return (the records of a folder's files and packs, marked as contributed; what is wrong with the others)."""
    files, packs = record_files(folder), sorted(folder.glob(PACKS)) if folder.is_dir() else []
    if not files and not packs:
        raise ValueError(f"{folder}: no record there")
    records: dict[str, Record] = {}
    problems: list[str] = []
    for path in [*packs, *files]:  # a file goes before a pack
        try:
            for record in read_packed(path) if path in packs else [read(path)]:
                records[record.key] = dataclasses.replace(record, contributed=True)
                if path in files and path.stem != record.key:
                    problems.append(f"{path}: the file holds the record {record.key!r}")
        except (RecordError, OSError) as error:
            problems.append(str(error))
    for key, record in records.items():
        if record.schema != SCHEMA:
            problems.append(f"{key}: of schema {record.schema}; run it again with this version")
        elif record.environment.get("git_dirty") is not False:
            problems.append(f"{key}: made by code that is in no commit, so nobody could run it again")
    return list(records.values()), problems


def main() -> int:
    """Run the command line. Returns the exit status: 2 for what was refused."""
    parser = argparse.ArgumentParser(prog="python -m results", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("add", help="check somebody else's records and add them, marked as contributed")
    adding.add_argument("folder", type=folder_path, help="where their files or packs lie")
    adding.add_argument(
        "--to", type=folder_path, default=CONTRIBUTED, metavar="FOLDER", help="results/records/contributed"
    )
    merging = commands.add_parser("merge", help="put the records of several folders into one; conflicts are named")
    merging.add_argument("folders", type=folder_path, nargs="+")
    merging.add_argument("--to", type=folder_path, required=True, metavar="FOLDER")
    packing = commands.add_parser("pack", help="put the records of a folder into one compressed file")
    packing.add_argument("folder", type=folder_path)
    packing.add_argument("--to", type=folder_path, required=True, metavar="FILE", help="NAME.jsonl.xz")
    commands.add_parser("schema", help="print the JSON Schema of a record, kept in results/records/record.schema.json")
    commands.add_parser("commit", help="print COMMIT:TREE for SMOE_COMMIT, where this code goes without its git")
    asked = parser.parse_args()
    try:
        if asked.command == "add":
            add(asked.folder, asked.to)
        elif asked.command == "merge":
            merge(asked.folders, asked.to)
        elif asked.command == "pack":
            pack(asked.folder, asked.to)
        elif asked.command == "schema":
            print(json.dumps(json_schema(), indent=1))
        else:
            print(commit_and_tree(ROOT))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
