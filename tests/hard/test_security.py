"""No pickle, no code from data, no path out of its folder, nothing of the person in what is published."""

from __future__ import annotations

import ast
import json
import re
import socket
from pathlib import Path

import pytest
from synthetic_records import make_failed

from results.pack import read_pack
from results.store import Store

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("smoe", "baselines", "benchmarks", "results", "reports", "examples")
SOURCES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
RUNS = {"eval", "exec", "compile", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
# Where code runs that a user named: contestants (SMOE_METHODS), and this repository's own modules by their names.
LOADERS = {"importlib.util.spec_from_file_location": {"benchmarks/registry.py"}}


def calls(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def faults(source):
    """What a source text does that reads pickles or runs text as code."""
    tree, found = ast.parse(source), []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [f"import {name}" for name in names if name.split(".")[0] in PICKLES]
    for call in calls(tree):
        name, options = ast.unparse(call.func), {k.arg: ast.unparse(k.value) for k in call.keywords}
        if name == "torch.load" and options.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
        if name in RUNS or options.get("allow_pickle") == "True":
            found.append(name)
        if options.get("shell") == "True":
            found.append(f"{name} through a shell")
        if name.endswith((".extractall", ".extract")) and "filter" not in options and "import tarfile" in source:
            found.append(f"{name} without a filter")
    return found


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import pickle", "import pickle"),
        ("from joblib import load", "import joblib"),
        ("torch.load(f)", "torch.load without weights_only=True"),
        ("torch.load(f, weights_only=False)", "torch.load without weights_only=True"),
        ("subprocess.run(x, shell=True)", "subprocess.run through a shell"),
        ("yaml.load(x)", "yaml.load"),
        ("eval('1')", "eval"),
        ("import tarfile\narchive.extractall(to)", "archive.extractall without a filter"),
    ],
)
def test_what_is_forbidden_is_seen(source, said):
    assert faults(source) == [said]


def test_no_source_file_reads_a_pickle_or_runs_text_as_code():
    found = {file.relative_to(ROOT).as_posix(): faults(file.read_text(encoding="utf-8")) for file in SOURCES}
    assert {name: what for name, what in found.items() if what} == {}
    assert len(SOURCES) > 100


def test_files_are_run_as_code_only_where_the_user_named_them():
    for loader, places in LOADERS.items():
        users = {f.relative_to(ROOT).as_posix() for f in SOURCES if loader in f.read_text(encoding="utf-8")}
        assert users == places
    manual = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert "**their code is run**" in manual and "runs its author's code" in manual and "trust_remote_code" in manual


def test_weights_are_read_from_safetensors_alone():
    loader = (ROOT / "benchmarks" / "models" / "load.py").read_text(encoding="utf-8")
    assert "use_safetensors" in loader and "pytorch_model" not in loader


def test_a_saved_record_holds_no_user_host_home_folder_or_token(tmp_path, monkeypatch):
    secret = "hf_" + "a1B2" * 8
    monkeypatch.setenv("HF_TOKEN", secret)
    record = make_failed("lora", error=f"OSError: {Path.home()}/m by {secret}; token: {secret} in /mnt/data/x/y")
    text = Store(tmp_path).save(record).read_text()
    assert str(Path.home()) not in text and secret not in text and "/mnt/data" not in text


def test_committed_records_hold_no_user_host_or_home_folder():
    private = re.compile(r"/(?:home|root|Users)/|hf_[A-Za-z0-9]{16}|gh[opsu]_[A-Za-z0-9]{16}")
    records = ROOT / "results" / "records"
    texts = [(f.name, f.read_text(encoding="utf-8")) for f in records.rglob("*.json")]
    packed = [(f.name, line.decode()) for f in records.rglob("*.jsonl.xz") for line in read_pack(f)]
    host = socket.gethostname()
    found = [name for name, text in (*texts, *packed) if private.search(text) or f'"{host}"' in text]
    assert texts and packed and found == []
    bodies = [body for _, text in (*texts, *packed) if isinstance(body := json.loads(text), dict)]
    keys = {key for body in bodies for key in body.get("environment") or {}}
    assert not keys & {"user", "username", "host", "hostname", "home", "cwd"}
