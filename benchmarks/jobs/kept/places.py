"""Where kept adapters lie, `adapters/KEY/` below the records, and which jobs have theirs: no torch, no lm-eval."""

from __future__ import annotations

from pathlib import Path

from results import Record, RunSpec
from results.store import Store

FOLDER = "adapters"  # below the records; git ignores it
ASKED = "SMOE_KEEP_ADAPTERS"  # set by a run for the processes of its jobs
CONFIG, CARD, RECORD, SAMPLES = "adapter_config.json", "README.md", "record.json", "samples.json"


def place_of(folder: Path, key: str) -> Path:
    """Where the adapter of a record lies; folder: of the records."""
    return folder / FOLDER / key


def part_of(folder: Path, key: str) -> Path:
    """Where it is saved first, and cleared away with what a killed run leaves."""
    return folder / FOLDER / f".{key}.part"


def found(store: Store, spec: RunSpec, keep_adapters: bool) -> Record | None:
    """Return the finished record of a spec; None where adapters are to be kept and its own is not there."""
    record = store.find(spec)
    if record is None or not keep_adapters or not has_adapter(record):
        return record
    return record if (place_of(store.folder, spec.key) / CONFIG).is_file() else None


def has_adapter(record: Record) -> bool:
    """Whether the job had an adapter, as every method has but those that train the model's own weights or nothing."""
    return record.parameters is not None and record.parameters.adapter_bytes is not None
