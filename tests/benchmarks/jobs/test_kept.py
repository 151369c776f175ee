"""Kept adapters: loaded by PEFT, or by lm-eval's own command as their card has it, they give the record's scores."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import transformers as tf
from families import config
from markdown_it import MarkdownIt  # comes with rich
from peft import PeftModel
from synthetic_records import make_record
from tokenisers import tokeniser
from typer.testing import CliRunner

from benchmarks import adapter
from benchmarks.data import training
from benchmarks.data.own.fields import Fields
from benchmarks.data.own.task import make
from benchmarks.data.tasks import OWN
from benchmarks.jobs.child import attempt
from benchmarks.jobs.evaluate import evaluate
from benchmarks.jobs.kept import card, places
from benchmarks.models import load as models
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from results.store import Store, read

ROOT = Path(__file__).resolve().parents[3]
WORDS = ("good", "fine", "bad", "poor")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of records with a task of one's own below it, and beside it a model whose every row is a token."""
    folder = tmp_path_factory.mktemp("kept")
    made = tokeniser()
    made.save_pretrained(folder / "model")
    llama = config("llama")
    llama.vocab_size = len(made)
    tf.set_seed(0)
    tf.AutoModelForCausalLM.from_config(llama).save_pretrained(folder / "model")
    rows = [{"q": f"Item {i} was {WORDS[i % 4]}.", "a": "up" if i % 4 < 2 else "down"} for i in range(60)]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = make(folder / "items.jsonl", None, Fields("q", None, "a"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(OWN, str(task.write(folder / "out" / "tasks")))
        patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
        yield folder


def keep(place, methods, **asked):
    size = dict(tasks="own_items", model=str(place / "model"), device="cpu", dtype="float32", limit=5)
    (spec,) = resolve(Request(**size, methods=methods, learning_rate=0.02, **asked))
    out = place / "out"
    record = attempt(spec, keep=places.part_of(out, spec.key))
    assert record.error is None
    card.finish(places.part_of(out, spec.key), record, places.place_of(out, spec.key))
    Store(out).save(record)
    return record, places.place_of(out, spec.key)


@pytest.fixture(scope="module")
def ours(place):
    return keep(place, "lora-smoe:r=2")


def again(record, folder):
    """The record's score, of the adapter in the folder on the base loaded anew."""
    base, tokenizer = models.load(record.spec.model, "float32", "cpu")
    objects, _ = training.training_data(record.spec, tokenizer, {})
    loaded = PeftModel.from_pretrained(base, folder).eval()
    return evaluate(loaded, tokenizer, objects, {"own_items": "acc"}, 16).scores["own_items"]


def check_again(record, folder):
    (score,) = record.scores.values()
    found = again(record, folder)
    assert found.documents == score.documents and found.outcomes == score.outcomes
    for mine, theirs in zip(found.loglikelihoods, score.loglikelihoods, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-3)


def test_peft_loads_a_kept_mixture_with_the_scores_of_its_record(ours):
    check_again(*ours)
    record, folder = ours
    assert read(folder / places.RECORD) == record
    assert {f.name for f in folder.iterdir()} >= {places.CONFIG, places.CARD, "adapter_model.safetensors"}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "dora", "pissa", "rslora", "adalora", "molora", "hydralora", "lora-own"])
def test_peft_loads_every_kind_of_adapter_with_the_scores_of_its_record(place, method):
    check_again(*keep(place, method))


def test_the_card_s_own_command_of_lm_eval_gives_the_scores_again(place, ours):
    record, folder = ours
    told = (folder / places.CARD).read_text()
    assert record.key in told and "weights in float32, eager attention, log-softmax in float32" in told
    (block,) = re.findall(r"```sh\n(.*?)```", told, re.DOTALL)
    # lm-eval reads its own thousands of task files first, which takes longer than the rest.
    only_ours = (
        "import functools, lm_eval.tasks as t; t.TaskManager = functools.partial(t.TaskManager, include_defaults=0)"
    )
    assert card.LM_EVAL in block
    command = block.replace(card.LM_EVAL, f"{only_ours}; {card.LM_EVAL}").rstrip()
    command += f" --log_samples --output_path {place / 'told'}\n"
    done = subprocess.run(
        ["bash", "-ec", command], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (file,) = (place / "told").rglob("samples_own_items_*.jsonl")
    samples = {s["doc_hash"][:12]: s for s in map(json.loads, file.read_text().splitlines())}
    (score,) = record.scores.values()
    assert set(samples) == set(score.documents)
    for name, outcome, values in zip(score.documents, score.outcomes, score.loglikelihoods, strict=True):
        assert samples[name]["acc"] == outcome
        assert [float(r[0][0]) for r in samples[name]["resps"]] == pytest.approx(values, abs=1e-3)


def test_a_finished_job_counts_only_with_its_adapter_where_adapters_are_kept(place, ours, tmp_path):
    record, _ = ours
    store = Store(tmp_path)
    store.save(record)
    assert places.found(store, record.spec, False) == record and places.found(store, record.spec, True) is None
    assert places.found(Store(place / "out"), record.spec, True) == record


def test_the_command_hands_an_adapter_out_and_says_what_is_not_there(place, ours, tmp_path):
    record, folder = ours
    shutil.copytree(folder, folder.with_name("custom--other"))

    def command(*arguments):
        return CliRunner().invoke(adapter.app, [*arguments, "--out", str(place / "out")])

    assert record.key in command().stdout.split()
    assert command(record.key[:-2], "--to", str(tmp_path / "mine")).exit_code == 0
    assert sorted(f.name for f in (tmp_path / "mine").iterdir()) == sorted(f.name for f in folder.iterdir())
    for arguments, message in [
        ([record.key, "--to", str(tmp_path)], "is there already"),
        ([record.key[:-1] + "x"], "did you mean"),
        (["custom--"], "several adapters begin with 'custom--'"),
    ]:
        refused = command(*arguments)
        assert refused.exit_code == 2 and message in refused.stderr


def test_a_job_without_an_adapter_leaves_nothing_and_says_so(place):
    record, folder = keep(place, "frozen")
    assert not folder.exists() and not list((place / "out" / places.FOLDER).glob(".*"))
    told = CliRunner().invoke(adapter.app, [record.key, "--out", str(place / "out")])
    assert told.exit_code == 2 and "frozen has no adapter" in told.stderr


@pytest.mark.parametrize("text", ["<img src=x onerror=alert(1)>", "[click](javascript:alert(1))", "a|b `c` <b>"])
def test_the_card_shows_names_as_text(text):
    record = make_record("lora", layers=1, count=2, model=f"org/{text}", tasks=(text,))
    record = dataclasses.replace(
        record, data={text: {}}, spec=dataclasses.replace(record.spec, method=text, source=text)
    )
    shown = MarkdownIt("commonmark", {"html": True}).enable("table").render(card.card(record, {}).split("---\n", 2)[2])
    assert not re.search("<(img|a|b)[ >]", shown) and shown.count("<th ") + shown.count("<th>") == 4
