"""A run of the comparisons as files: speed.json, and speed.md for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.ratios import Ratio, markdown
from benchmarks.speed.setting import Setting
from results.environment import environment
from results.table import Table, plain_markdown


def write(folder: Path, rows: Sequence[Ratio], setting: Setting, tables: Sequence[Table] = ()) -> None:
    """Write both files into `folder`, which is made."""
    where = environment(torch.cuda.get_device_name() if setting.device == "cuda" else None)
    where["threads"] = torch.get_num_threads()
    body = {"environment": where, "setting": asdict(setting), "ratios": [row.to_json() for row in rows]}
    body["tables"] = [{"title": t.title, "columns": t.columns, "rows": t.rows} for t in tables]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "speed.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    (folder / "speed.md").write_text(page(rows, body, tables), encoding="utf-8")


def page(rows: Sequence[Ratio], body: Mapping[str, Any], tables: Sequence[Table] = ()) -> str:
    """Return the table with what it was measured on."""
    where, setting = body["environment"], body["setting"]
    machine = (
        where["device_name"] or f"{where['cpu_model']}, {where['cpu_count']} processors, {where['threads']} threads"
    )
    versions = ", ".join(f"{name} {where['versions'][name]}" for name in ("torch", "transformers", "peft"))
    commit = f"{(where['git_commit'] or 'unknown')[:12]}{' with changes' if where['git_dirty'] else ''}"
    further = "".join(f"## {table.title}\n\n{plain_markdown(table)}\n" for table in tables)
    judged = [row.met for row in rows if row.met is not None]
    return f"""# Speed

Ratios of competitors that take turns within one run: the median over its rounds and the middle half of them.
{sum(judged)} of {len(judged)} targets are met. Absolute figures, in the last column, are for orientation only.

{markdown(rows)}
{further}Model {setting["model"]}, {setting["dtype"]}, {setting["device"]}; {machine};
Python {where["python"]}, {versions};
commit {commit}; {where["timestamp"]}; load average {where["load_average"]}.
Every figure is in [speed.json](speed.json).
"""
