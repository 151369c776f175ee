"""What the real clients do with a hub that answers, refuses, fails and goes away; test_real_hub.py runs this file.

It runs in a process of its own, whose clients ask the hub of tests/hub_server.py on the loopback address.
"""

from __future__ import annotations

import io
import json

import datasets
import hub_server
import pytest
from hub_repositories import made_up_repositories, real_repositories, sciq

from benchmarks import registry
from benchmarks.data import hub, sources, training
from benchmarks.data.documents import fingerprint
from benchmarks.jobs.job import job
from benchmarks.models import identity
from benchmarks.models.load import TINY, load
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from results import Record
from results.environment import environment

HUB = hub_server.HUB
SCIQ = "datasets/allenai/sciq"
SUITES = ["nlu", "math", *(pytest.param(n, marks=pytest.mark.slow) for n in ("commonsense", "knowledge", "mixed"))]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A local folder of repositories, each of which is on the hub as well."""
    place = tmp_path_factory.mktemp("repositories")
    made_up_repositories(place)
    real_repositories(place)
    for repository in place.glob("*/*"):
        HUB.commit(f"datasets/{repository.relative_to(place)}", hub_server.files_below(repository))
    return place


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """Caches of its own for each test, a hub without faults, and no wait before another try."""
    monkeypatch.delenv(hub.COPIES, raising=False)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("datasets.config.HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    HUB.faults.clear()
    HUB.locked.clear()
    HUB.asked.clear()
    training.forget()


def read(task, source_revisions=None):
    found = sources.splits("hub", (task,), revisions=source_revisions or sources.revisions("hub", (task,), {}))[task]
    return {name: sorted(map(fingerprint, part)) for name, part in found.items()}


def new_repository(name, *numbers, files=None):
    """A commit on the hub for each number, of the documents of the task sciq from that number on; their commits."""
    made = []
    for number in numbers:
        text = {
            s: [sciq(number + k + i) for i in range(4)] for k, s in ((0, "train"), (10, "validation"), (20, "test"))
        }
        lines = {f"{s}.jsonl": "".join(json.dumps(d) + "\n" for d in docs).encode() for s, docs in text.items()}
        made.append(HUB.commit(name, files(text) if files else lines))
    return made


@pytest.fixture
def moved(monkeypatch):
    """A data set of the hub in two commits, read by the task sciq in place of its own."""
    name = f"own/moved{len(HUB.commits)}"
    points_at(monkeypatch, name)
    return name, new_repository(f"datasets/{name}", 0, 100)


def points_at(monkeypatch, path):
    real = sources.settings
    monkeypatch.setattr(sources, "settings", lambda task: {**real(task), "dataset_path": path, "dataset_name": None})


def numbers(revision, path):
    found = sources.splits("hub", ("sciq",), revisions={path: revision})["sciq"]
    return {int(d["question"].split()[1].rstrip("?")) for part in found.values() for d in part}


OLD, NEW = {*range(4), *range(20, 24)}, {*range(100, 104), *range(120, 124)}


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_has_the_documents_of_the_same_local_folder(folder, name, monkeypatch):
    suite = registry.suites()[name]
    told = sources.revisions("hub", suite.tasks, {})
    assert told and told == {path: HUB.newest(f"datasets/{path}") for path in told}
    served = sources.splits("hub", suite.tasks, revisions=told)
    monkeypatch.setenv(hub.COPIES, str(folder))
    local = sources.splits("hub", suite.tasks)
    assert served.keys() == local.keys() == set(suite.tasks)
    for task, split in served.items():
        assert {n: list(part) for n, part in split.items()} == {n: list(part) for n, part in local[task].items()}


def test_a_pinned_commit_stays_when_the_branch_moves(moved):
    path, (old, new) = moved
    assert sources.revisions("hub", ("sciq",), {}) == {path: new}
    assert sources.revisions("hub", ("sciq",), {path: "main"}) == {path: new}  # a branch goes on record as its commit
    assert numbers(old, path) == OLD and numbers(new, path) == NEW


@pytest.mark.parametrize("gone", ["offline", "failing"])
def test_without_the_hub_a_pinned_commit_is_read_from_the_cache_and_no_other_one(moved, monkeypatch, gone):
    path, (old, new) = moved
    assert numbers(old, path) == OLD and numbers(new, path) == NEW  # the newer one was used last
    if gone == "offline":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    else:
        HUB.fail("", 503, times=10**6)
    asked = len(HUB.asked)
    assert numbers(old, path) == OLD and numbers(new, path) == NEW
    assert len(HUB.asked) == asked
    with pytest.raises(ValueError, match=rf"{path} cannot be had.*--revision"):
        numbers("0" * 40, path)
    with pytest.raises(ValueError, match=rf"{path} cannot be had from the hub.*--source embedded"):
        sources.revisions("hub", ("sciq",), {})


@pytest.mark.parametrize(("status", "told"), [(401, "HF_TOKEN"), (403, "ask for access.*HF_TOKEN")])
def test_a_gated_data_set_says_where_to_ask_and_how_to_log_in(moved, status, told):
    path, (old, _) = moved
    HUB.locked[f"datasets/{path}"] = status
    with pytest.raises(ValueError, match=rf"data set {path} is gated.*{told}"):
        sources.revisions("hub", ("sciq",), {})
    with pytest.raises(ValueError, match=rf"data set {path} is gated.*{told}"):
        numbers(old, path)


def test_a_missing_data_set_and_a_missing_commit_are_named(moved, monkeypatch):
    path, _ = moved
    with pytest.raises(ValueError, match=rf"data set {path} has no commit {'1' * 40}.*--revision"):
        numbers("1" * 40, path)
    points_at(monkeypatch, "own/missing")
    with pytest.raises(ValueError, match=r"data set own/missing is not on the hub.*spelling.*HF_TOKEN"):
        sources.revisions("hub", ("sciq",), {})
    with pytest.raises(ValueError, match=r"data set own/missing is not on the hub"):
        numbers("1" * 40, "own/missing")


@pytest.mark.parametrize("fault", [429, 500, 503, "cut"])
@pytest.mark.parametrize("where", ["/api/", ".jsonl"])
def test_a_fault_that_passes_is_tried_again(moved, fault, where):
    path, (_, new) = moved
    HUB.fail(where, fault, times=2, method="GET")
    told = sources.revisions("hub", ("sciq",), {})
    assert told == {path: new} and numbers(new, path) == NEW
    assert [status for *_, status in HUB.asked].count(fault) == 2


def test_a_fault_that_stays_is_told_with_its_status(moved):
    path, (old, _) = moved
    for status in (429, 503):
        HUB.faults.clear()
        HUB.fail("", status, times=10**6)
        with pytest.raises(ValueError, match=rf"{path} cannot be had from the hub \(.*{status}.*again later"):
            sources.revisions("hub", ("sciq",), {})
        assert len(HUB.asked) < 60
    HUB.faults.clear()
    HUB.fail(".jsonl", "cut", times=10**6)
    with pytest.raises(ValueError, match=rf"{path} cannot be had from the hub"):
        numbers(old, path)
    HUB.faults.clear()
    assert numbers(old, path) == OLD  # nothing half-written is left


def test_parquet_files_and_files_without_a_card_are_read_by_their_names(monkeypatch):
    def parquet(text):
        made = {}
        for split, docs in text.items():
            datasets.Dataset.from_list(docs).to_parquet(buffer := io.BytesIO())
            made[f"data/{split}-00000-of-00001.parquet"] = buffer.getvalue()
        return made

    def csv(text):
        made = {}
        for split, docs in text.items():
            datasets.Dataset.from_list(docs).to_csv(buffer := io.BytesIO())
            made[f"{split}.csv"] = buffer.getvalue()
        return made

    for name, files in (("own/parquet", parquet), ("own/csv", csv)):
        points_at(monkeypatch, name)
        (sha,) = new_repository(f"datasets/{name}", 0, files=files)
        assert numbers(sha, name) == OLD
        monkeypatch.undo()
        monkeypatch.setattr("time.sleep", lambda seconds: None)


def test_a_data_set_that_is_a_script_is_refused_with_what_to_do(monkeypatch):
    points_at(monkeypatch, "own/script")
    (sha,) = new_repository(
        "datasets/own/script", 0, files=lambda _: {"script.py": b"raise SystemExit", "README.md": b""}
    )
    with pytest.raises(ValueError, match=r"its data set cannot be read.*it is a script.*dataset_path"):
        numbers(sha, "own/script")


def asked(folder, **more):
    options = dict(
        tasks="gsm8k,sciq", methods="lora", source="hub", model=TINY, device="cpu", train_documents=8, limit=3
    )
    (spec,) = resolve(Request(**(options | more)))
    return spec


def measured(spec):
    training.forget()
    record = job(spec, lambda *_, **__: None, Record.failed(spec, "did not end", environment(spec.device)))
    return record.losses, {
        task: (s.value, s.documents, s.loglikelihoods, s.answers) for task, s in record.scores.items()
    }


def test_a_run_from_the_hub_measures_what_a_run_from_the_local_folder_measures(folder, monkeypatch):
    served = measured(asked(folder, tasks="boolq,sciq"))
    monkeypatch.setenv(hub.COPIES, str(folder))
    assert measured(asked(folder, tasks="boolq,sciq")) == served


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A small model as a local folder, and on the hub."""
    place = tmp_path_factory.mktemp("model")
    network, tokenizer = load(TINY, "float32", "cpu")
    network.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place, HUB.commit("models/own/small", hub_server.files_below(place))


@pytest.mark.slow
def test_a_model_of_the_hub_is_its_commit_and_computes_what_its_folder_computes(folder, model):
    place, sha = model
    spec = asked(folder, model="own/small", tasks="sciq")
    assert spec.model_content == sha
    assert measured(spec) == measured(asked(folder, model=str(place), tasks="sciq"))


def test_a_pinned_model_stays_when_its_branch_moves(model):
    place, sha = model
    changed = {**hub_server.files_below(place)}
    config = json.loads(changed["config.json"])
    changed["config.json"] = json.dumps({**config, "rms_norm_eps": 0.5}).encode()
    later = HUB.commit("models/own/small", changed)
    try:
        assert identity.content("own/small") == later
        assert load("own/small", "float32", "cpu", revision=sha)[0].config.rms_norm_eps == config["rms_norm_eps"]
        assert load("own/small", "float32", "cpu", revision=later)[0].config.rms_norm_eps == 0.5
    finally:
        del HUB.commits["models/own/small"][later]


@pytest.mark.slow
def test_a_model_is_read_from_the_cache_when_the_hub_is_gone(folder, model, monkeypatch):
    _, sha = model
    before = measured(asked(folder, model="own/small", tasks="sciq"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    count = len(HUB.asked)
    pinned = asked(folder, model="own/small", tasks="sciq", revision=f"allenai/sciq={HUB.newest(SCIQ)}")
    assert pinned.model_content == sha and measured(pinned) == before and len(HUB.asked) == count


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (401, "gated.*HF_TOKEN"),
        (403, "gated.*ask for access"),
        (404, "not on the hub.*spelling"),
        (503, "cannot be had.*503.*again later"),
    ],
)
def test_a_model_that_cannot_be_had_is_refused_by_the_plan_with_what_to_do(folder, model, fault, told):
    name = "own/small"
    if fault in (401, 403):
        HUB.locked["models/own/small"] = fault
    elif fault == 404:
        name = "own/none"
    else:
        HUB.fail("own/small", fault, times=10**6)
    with pytest.raises(ValueError, match=f"model '?{name}.*{told}"):
        asked(folder, model=name, tasks="sciq")


@pytest.mark.parametrize("fault", [429, 503, "cut"])
def test_a_model_whose_download_fails_for_a_while_arrives_whole(model, fault):
    place, sha = model
    HUB.fail("model.safetensors", fault, times=2, method="GET")
    served, _ = load("own/small", "float32", "cpu", revision=sha)
    local, _ = load(str(place), "float32", "cpu")
    assert all((a == b).all() for a, b in zip(served.parameters(), local.parameters(), strict=True))
    assert [status for *_, status in HUB.asked].count(fault) == 2
