"""`python -m results`: pack records, say what code this is, print the JSON Schema of a record."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from results.environment import ROOT, commit_and_tree
from results.pack import write_pack
from results.record import json_schema
from results.store import folder_path, read, record_files


def pack(folder: Path, file: Path) -> None:
    """Write every record file of a folder into one pack; the files stay. Raises ValueError or OSError."""
    files = record_files(folder)
    if not files:
        raise ValueError(f"{folder}: no record there")
    bodies = {read(path).key: json.loads(path.read_text(encoding="utf-8")) for path in files}
    print(f"{len(bodies)} records in {file} and {write_pack(bodies, file).name}")


def main() -> int:
    """Run the command line. Returns the exit status: 2 for what was refused."""
    parser = argparse.ArgumentParser(prog="python -m results", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="put the records of a folder into one compressed file")
    packing.add_argument("folder", type=folder_path)
    packing.add_argument("--to", type=folder_path, required=True, metavar="FILE", help="NAME.jsonl.xz")
    commands.add_parser("schema", help="print the JSON Schema of a record, kept in results/records/record.schema.json")
    commands.add_parser("commit", help="print COMMIT:TREE for SMOE_COMMIT, where this code goes without its git")
    asked = parser.parse_args()
    try:
        if asked.command == "pack":
            pack(asked.folder, asked.to)
        elif asked.command == "schema":
            print(json.dumps(json_schema(), indent=1))
        else:
            print(commit_and_tree(ROOT))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
