"""Bad input by the hundred (`-m slow`: by the thousand): refused by the error that a command line shows, or read."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import traceback
import warnings
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import damaged, files, mutated
from own_task import rows, write_task
from synthetic_records import make_failed, make_record

import results.store
from baselines.method import Method
from benchmarks.data import sources
from benchmarks.data.tasks import OWN
from benchmarks.models.assets import AssetError
from benchmarks.offline import bundle
from benchmarks.plan.parse import parse_methods
from reports.analysis.claims import LEDGER, load_claims
from results.spec import RecordError
from results.store import Store
from results.studies.stability import Stability
from smoe import SMoEConfig, allocation
from smoe.sensitivity import Sensitivity

FEW, MANY = 200, 3000
SAFE = "read, or refused in words; no traceback, nothing executed"
FILES = {}  # name -> (a whole body, what reads a file, which errors refuse it)


def reader(body, *errors):
    def register(read):
        FILES[read.__name__] = body, read, errors
        return read

    return register


@reader(json.loads(results.store.render(make_record(layers=1, count=3))), RecordError)
def record(path):
    """With the digest mended, as by somebody who means it."""
    try:
        body = json.loads(path.read_bytes())
        body.pop("digest")
        path.write_text(json.dumps({**body, "digest": results.store._digest(body)}))
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        pass
    read = results.store.read(path)
    shown = [s.value for s in (read.scores or {}).values() if s.metric == "acc"]
    assert all(0 <= value <= 1 for value in shown)


@reader({f"model.layers.{i}.self_attn.q_proj": i for i in range(4)}, ValueError)
def flat_allocation(path):
    assert all(type(n) is int and n >= 0 for n in allocation.load_flat(path).values())


BLOCKS = {f"model.layers.{i}.self_attn.q_proj": [1.0 + i, 2.0] for i in range(3)}
ARTEFACT = {
    "format": "smoe-sensitivity-1", "mode": "paper", "samples": {"a": 2, "b": 2}, "metadata": {"model": "m"},
    "scores": {t: {b: sum(v) / 2 for b, v in BLOCKS.items()} for t in "ab"}, "values": {"a": BLOCKS, "b": BLOCKS},
}  # fmt: skip


@reader(ARTEFACT, ValueError)
def sensitivity(path):
    loaded = Sensitivity.load(path)
    assert loaded.spread and loaded.relative_error
    experts = allocation.allocate(loaded.scores, budget=allocation.Budget(total_experts=3))
    assert sum(experts.values()) == 3


CONFIG = dataclasses.asdict(SMoEConfig(r=4, num_experts=2, target_modules=["q_proj"], expert_pattern={"a": 3}))
CONFIG = json.loads(json.dumps({**CONFIG, "target_modules": ["q_proj"]}, default=str))


@reader({**CONFIG, "peft_type": "SMOE"}, ValueError)
def adapter_config(path):
    path.rename(path.with_name("adapter_config.json"))
    SMoEConfig.from_pretrained(str(path.parent))


@reader(
    {
        "format": bundle.FORMAT,
        "parts": [{"name": f"{bundle.PARTS}.000", "bytes": 10, "sha256": "0" * 64}],
        "files": [{"name": "a/b.txt", "bytes": 3, "sha256": "1" * 64}],
    },
    bundle.BundleError,
)
def bundle_manifest(path):
    path.rename(path.with_name(bundle.MANIFEST))
    manifest = bundle.read(path.parent)
    assert not [e["name"] for kind in ("parts", "files") for e in manifest[kind] if ".." in e["name"].split("/")]


@reader(yaml.safe_load(LEDGER.read_text(encoding="utf-8")), ValueError)
def claims(path):
    assert all(claim["name"] for claim in load_claims(path))


STABILITY = next((Path(results.store.__file__).parent / "records" / "stability").rglob("*.json"))


@reader(json.loads(STABILITY.read_text()), RecordError)
def stability(path):
    Stability.load(path)


def outcome(read, errors, tracebacks, shown):
    """Whether the input was refused with words; any other error is put among the tracebacks by its line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read()
    except errors as error:
        if str(error).strip():
            return True
        tracebacks.setdefault("no words", shown())
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        tracebacks.setdefault(f"{Path(where.filename).name}:{where.lineno} {error!r}"[:200], shown())
    return False


def tried(name, count, folder):
    """How many of so many mutated files are refused; no error is another than those declared."""
    body, read, errors = FILES[name]
    refused, tracebacks = 0, {}
    for number, content in enumerate(files(body, count, seed=28)):
        place = folder / f"{number}"
        place.mkdir()
        (path := place / "x.json").write_bytes(content)
        refused += outcome(lambda p=path: read(p), errors, tracebacks, lambda c=content: c[:300])
    assert not tracebacks, "\n".join(map(str, tracebacks.items()))
    return refused


@pytest.mark.parametrize("name", FILES)
def test_two_hundred_mutated_files_of_each_kind_are_refused_or_read(name, tmp_path):
    assert FEW / 4 < tried(name, FEW, tmp_path) <= FEW


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_thousands_of_mutated_files_of_each_kind_are_refused_or_read(name, tmp_path, counted):
    refused = tried(name, MANY, tmp_path)
    assert MANY / 4 < refused <= MANY
    counted(f"mutated files, {name.replace('_', ' ')}: {SAFE}", MANY, MANY)


def test_no_mutated_record_reaches_a_table(tmp_path):
    """Whatever lies in a folder, what a store gives are whole records; the rest is named and left where it is."""
    whole = [make_record(layers=1, count=3), make_failed("dora")]
    body = results.store.render(whole[0]).encode()
    rng = random.Random(1)
    for number in range(40):
        key = f"{whole[0].key[:-8]}{number:08x}"
        (tmp_path / f"{key}.json").write_bytes(damaged(body, rng))
    for record in whole:
        Store(tmp_path).save(record)
    before = sorted(path.name for path in tmp_path.iterdir())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert {r.key for r in Store(tmp_path).all()} == {r.key for r in whole}
    assert sorted(path.name for path in tmp_path.iterdir()) == before


METHODS = ("lora", "lora-smoe", "molora", "adalora", "@main", "@controls", "experts", "frozen")
SETTINGS = ("r", "alpha", "mean_experts", "num_experts", "router", "importance", "target_modules", "balance_loss", "x")
VALUES = (
    "1",
    "-1",
    "0",
    "nan",
    "inf",
    "1e999",
    "none",
    "true",
    "q_proj+v_proj",
    "",
    "../x",
    "__import__('os')",
    "9" * 50,
)
strings = st.one_of(
    st.text(max_size=40),
    st.lists(
        st.builds(
            lambda method, pairs: ":".join([method, *(f"{k}={v}" for k, v in pairs)]),
            st.sampled_from(METHODS),
            st.lists(st.tuples(st.sampled_from(SETTINGS), st.one_of(st.sampled_from(VALUES), st.text(max_size=8)))),
        ),
        max_size=3,
    ).map(",".join),
)


def parsed(text):
    methods, tracebacks = [], {}
    outcome(lambda: methods.extend(parse_methods(text)), ValueError, tracebacks, lambda: text)
    assert tracebacks == {} and all(isinstance(method, Method) for method in methods)
    numbers = [v for m in methods for v in dataclasses.asdict(m).values() if isinstance(v, float)]
    assert all(math.isfinite(number) for number in numbers)


@settings(max_examples=FEW, deadline=None, derandomize=True)
@given(strings)
def test_a_method_s_text_is_parsed_or_refused(text):
    parsed(text)


@pytest.mark.slow
def test_thousands_of_methods_texts_are_parsed_or_refused(counted):
    texts = []

    @settings(max_examples=MANY, deadline=None, derandomize=True)
    @given(strings)
    def each(text):
        texts.append(text)
        parsed(text)

    each()
    assert len(texts) >= MANY / 2
    counted(f"made-up texts of --methods: {SAFE}", len(texts), len(texts))


def own_tasks(count, folder, monkeypatch):
    """Mutated task files and data: each is read, or refused by an error that the command line shows."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
    rng = random.Random(3)
    refused, tracebacks = 0, {}
    for number in range(count):
        own = folder / str(number)
        write_task(own, train=rows(12), test=rows(4, 100))
        target = own / ("t.yaml" if number % 2 else "t-train.jsonl")
        if number % 2:
            body = mutated(yaml.safe_load(target.read_text()), rng)
            target.write_text(yaml.safe_dump(body, allow_unicode=True))
        else:
            target.write_bytes(damaged(target.read_bytes(), rng))
        monkeypatch.setenv(OWN, str(own))
        refused += outcome(
            lambda: sources.splits("embedded", ("t",)),
            (ValueError, OSError, AssetError),
            tracebacks,
            lambda t=target: t.read_bytes()[:600],
        )
    assert not tracebacks, "\n".join(map(str, tracebacks.items()))
    return refused


def test_mutated_own_tasks_are_refused_or_read(tmp_path, monkeypatch):
    assert own_tasks(40, tmp_path, monkeypatch) > 10


@pytest.mark.slow
def test_a_thousand_mutated_own_tasks_are_refused_or_read(tmp_path, monkeypatch, counted):
    assert own_tasks(1000, tmp_path, monkeypatch) > 250
    counted(f"mutated tasks and data of one's own: {SAFE}", 1000, 1000)
