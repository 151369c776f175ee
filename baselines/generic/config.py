"""Configurations of PEFT: from what people write or keep in a folder to what a key holds, and to what PEFT reads."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from baselines.fields import unknown_field
from results.names import unknown

CONFIG, TRAINING = "adapter_config.json", "training_params.json"  # of PEFT's method_comparison
# Of one saved adapter, of the library or of the model, none of which tells what is trained.
NOT_CONTENT = frozenset(
    "peft_type task_type auto_mapping peft_version base_model_name_or_path revision inference_mode fan_in_fan_out"
    " runtime_config megatron_core megatron_config loftq_config".split()
)
NEWER = {
    **dict.fromkeys("BEFT DEFT FROD GLORA HIRA UNILORA".split(), "0.20"),
    **dict.fromkeys("SUPERTUNING SHADOW".split(), "0.21"),
}  # type -> the first version of PEFT that has it
GONE = {"BONE": "it is gone since PEFT 0.19, where type=MISS takes its place"}
UNTRAINABLE = {
    "POLY": "it has to be told the task of every sample as task_ids",
    "MULTITASK_PROMPT_TUNING": "it has to be told the task of every sample as task_ids",
    "XLORA": "it is made of trained adapters",
    "SHADOW": "its auxiliary loss is of labels, which the model is not given here",
    **dict.fromkeys(
        "PROMPT_TUNING P_TUNING PREFIX_TUNING CPT CARTRIDGE".split(),
        "PEFT drops the positions, so that padding on the left, which all methods have here, comes between the prompt "
        "and the text",
    ),
}
STARTS = ("eva", "lora_ga", "corda", "loftq")  # values of init_lora_weights that PEFT needs more than a model for
REFUSED = {
    "modules_to_save": "it trains the model's own weights",
    "trainable_token_indices": "it trains the model's own embedding",
    "target_parameters": "the suite's methods train blocks",
    "layer_replication": "it makes another base model",
    "eva_config": "a start from data is not offered here",
    "corda_config": "a start from data is not offered here",
    "lora_ga_config": "a start from data is not offered here",
    "alora_invocation_tokens": "it trains what follows certain tokens alone",
    "arrow_config": "it is made of trained adapters",
    "use_asa": "its schedule is in absolute steps",
}


def config_class(kind: str) -> Any:
    """Return PEFT's class of configurations of a type. Raises ValueError for one that is not there, or unusable."""
    classes = {str(name.value): cls for name, cls in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    if kind in UNTRAINABLE:
        raise ValueError(f"peft:{kind} cannot be compared: {UNTRAINABLE[kind]}; leave it out of --methods")
    if kind in GONE:
        raise ValueError(f"peft:{kind}: {GONE[kind]}")
    if kind not in classes and kind in NEWER:
        raise ValueError(f"peft:{kind} is in PEFT from {NEWER[kind]} on; {peft.__version__} is installed: upgrade peft")
    if kind not in classes:
        raise unknown("type of peft", kind, sorted(set(classes) - set(UNTRAINABLE)))
    return classes[kind]


def defaults(kind: str) -> dict[str, Any]:
    """Return PEFT's default of every field of a type that says what is trained."""
    values = {}
    for field in dataclasses.fields(config_class(kind)):
        made = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        values[field.name] = None if made is dataclasses.MISSING else made
    return {name: value for name, value in values.items() if name not in NOT_CONTENT}


def content(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those settings that differ from PEFT's defaults, by name, JSON-ready.

    Raises ValueError for a field that the installed PEFT does not have, and for what cannot be compared.
    """
    usual = defaults(kind)
    kept = {}
    for name, value in sorted(given.items()):
        if name in NOT_CONTENT:
            continue
        if name not in usual:
            if value is None:
                continue  # of another version, and off
            error = unknown_field(f"peft:{kind}", name, usual)
            version = given.get("peft_version")
            raise ValueError(f"{error}; PEFT {peft.__version__} is installed" + (f", not {version}" if version else ""))
        if value != usual[name] and not (value is None and not usual[name]):
            kept[name] = sorted(value) if isinstance(value, set) else value
    for name in kept:
        if name in REFUSED:
            raise ValueError(f"peft:{kind}: {name} is refused, for {REFUSED[name]}; leave it out")
    if kept.get("bias", "none") != "none" and kind != "BEFT":
        raise ValueError(f"peft:{kind}: bias {kept['bias']!r} is refused, for it trains the model's own biases: none")
    start = str(kept.get("init_lora_weights", ""))
    if start in STARTS:
        raise ValueError(f"peft:{kind}: init_lora_weights {start!r} needs data or a quantised base, which PEFT takes "
                         "elsewhere: without them it would train as LoRA; choose another start")  # fmt: skip
    return json.loads(json.dumps(kept))


def of_folder(folder: Path) -> tuple[str, dict[str, Any], float | None]:
    """Return (type, settings, published learning rate) of a folder with adapter_config.json; None: it names no rate.

    Raises ValueError for a folder without one, and for an optimiser that training here does not have.
    """
    values = _read(folder / CONFIG)
    if not isinstance(kind := values.get("peft_type"), str):
        raise ValueError(f"{folder / CONFIG} names no peft_type")
    rate = None
    if (folder / TRAINING).is_file():
        training = _read(folder / TRAINING)
        optimizer = str(training.get("optimizer_type", "AdamW"))
        if optimizer.lower() not in ("adamw", "adam"):
            raise ValueError(f"{folder}: optimizer_type {optimizer!r} is not offered here; AdamW trains all methods")
        if (rate := training.get("optimizer_kwargs", {}).get("lr")) is not None:
            rate = float(rate)
    return kind.upper(), content(kind.upper(), values), rate


def folders(root: Path) -> list[Path]:
    """Return every folder below `root` that has a configuration. Raises ValueError for none."""
    found = sorted(file.parent for file in root.rglob(CONFIG)) if root.is_dir() else []
    if not found:
        raise ValueError(f"methods_from {str(root)!r}: no */{CONFIG} is there")
    return found


def _read(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file} is no JSON object")
    return values
