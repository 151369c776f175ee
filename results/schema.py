"""The JSON Schema of a record's file, made from the dataclasses, so that the two cannot drift apart.

`python -m results.schema` prints it, `--write` puts it into results/record.schema.json, and `--check` ends with exit
status 1 when that file is out of date. A change of the schema that older records do not meet is a new version: raise
`SCHEMA` in results/record.py and add the upgrade of the version before it there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results.record import SCHEMA, Record, RunSpec

FILE = Path(__file__).resolve().parent / "record.schema.json"
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", types.NoneType: "null"}


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of one file of the store."""
    definitions: dict[str, Any] = {}
    body = _object(Record, definitions)
    body["properties"] |= {
        "key": {"type": "string"},
        "schema": {"const": SCHEMA},
        "status": {"enum": ["done", "failed"]},
        "digest": {"type": "string"},  # written by the store; see results/store.py
    }
    body["required"].append("key")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"A record, schema {SCHEMA}",
        **body,
        "$defs": dict(sorted(definitions.items())),
    }


def _object(cls: type, definitions: dict[str, Any]) -> dict[str, Any]:
    """An object with exactly the fields of `cls`; only a RunSpec may lack those that came later."""
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)
    return {
        "type": "object",
        "properties": {f.name: _type(hints[f.name], definitions) for f in fields},
        "required": sorted(f.name for f in fields if cls is not RunSpec or f.default is dataclasses.MISSING),
        "additionalProperties": False,
    }


def _type(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of one type hint; dataclasses are added to `definitions`. Raises ValueError for an unknown kind."""
    inner = [_type(a, definitions) for a in typing.get_args(hint) if a is not Ellipsis]
    if hint is Any:
        return {}
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        definitions[hint.__name__] = _object(hint, definitions)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    origin = typing.get_origin(hint)
    if origin is types.UnionType:
        return {"anyOf": inner}
    if origin is tuple:
        return {"type": "array", "items": inner[0]}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": inner[1]}
    raise ValueError(f"no JSON Schema for a field of type {hint}")


def main() -> int:
    """The command line. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m results.schema", description="The JSON Schema of a record.")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help=f"exit 1 when {FILE.name} is out of date")
    choice.add_argument("--write", action="store_true", help=f"bring {FILE.name} up to date")
    asked = parser.parse_args()
    text = json.dumps(schema(), indent=1) + "\n"
    if asked.write:
        FILE.write_text(text, encoding="utf-8")
    elif not asked.check:
        print(text, end="")
    elif not FILE.exists() or FILE.read_text(encoding="utf-8") != text:
        print(f"{FILE.name} is out of date; run python -m results.schema --write")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
