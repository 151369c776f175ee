"""Exported files are those that lm-eval writes and reads, and those that Every Eval Ever's validator passes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
from synthetic_records import make_failed, make_record
from typer.testing import CliRunner

from reports import exports
from reports.__main__ import app
from results.record import Score
from results.store import RECORDS, Store

TIME = {"timestamp": "2026-11-25T16:23:38+00:00"}
TASKS = ("boolq", "piqa")
WRITTEN = Score(
    metric="exact_match", value=0.5, stderr=0.5, count=2, all_metrics={"exact_match": 0.5, "unparseable": 0.0},
    documents=("a" * 12, "b" * 12), outcomes=(1.0, 0.0), answers=("yes", None), gold=(0, None),
)  # fmt: skip
CHOSEN = Score(
    metric="acc", value=0.5, stderr=None, count=2, all_metrics={"acc": 0.5}, documents=("c" * 12, "d" * 12),
    outcomes=(1.0, 0.0), loglikelihoods=((-1.5, -2.0), (-3.0, -0.5)), choice_bytes=((2, 3), (2, 3)), gold=(0, 0),
)  # fmt: skip


def record(**changes):
    made = make_record(layers=1, env=TIME, count=2, **{"tasks": TASKS, **changes})
    return dataclasses.replace(made, scores={"boolq": CHOSEN, "piqa": WRITTEN})


@pytest.fixture
def folder(tmp_path):
    store = Store(tmp_path / "records")
    for made in (record(), record(seed=1, model="org/name"), make_failed("dora")):
        store.save(made)
    return tmp_path / "records"


def export(what, records, to):
    return CliRunner().invoke(app, ["export", "--what", what, "--records", str(records), "--to", str(to)])


def test_a_record_becomes_results_and_samples_in_a_folder_of_its_key(folder, tmp_path):
    said = export("lm-eval", folder, tmp_path / "out")
    assert said.exit_code == 0 and "6 files" in said.output
    (place,) = (p for p in (tmp_path / "out").iterdir() if p.name == record().key)
    told = json.loads((place / "results_2026-11-25T16-23-38+00-00.json").read_text())
    assert told["results"]["boolq"] == {"alias": "boolq", "sample_len": 2, "acc,none": 0.5}
    assert told["results"]["piqa"]["exact_match_stderr,none"] == 0.5 and told["n-samples"]["piqa"]["effective"] == 2
    lines = [json.loads(line) for file in sorted(place.glob("samples_*")) for line in file.read_text().splitlines()]
    assert [line["doc_hash"] for line in lines] == [*CHOSEN.documents, *WRITTEN.documents]
    assert lines[0]["resps"] == [[["-1.5", None]], [["-2.0", None]]] and (lines[0]["acc"], lines[1]["acc"]) == (1, 0)
    assert lines[2]["filtered_resps"] == ["yes"] and [line["target"] for line in lines] == ["0", "0", "0", None]


def test_the_layout_is_that_of_lm_evals_own_writer(folder, tmp_path):
    loggers = pytest.importorskip("lm_eval.loggers")
    utils = pytest.importorskip("lm_eval.utils")
    tracker = loggers.EvaluationTracker(output_path=str(tmp_path / "theirs"))
    tracker.general_config_tracker.log_experiment_args("hf", "pretrained=name", None, None, False)
    sample = {
        "doc_id": 0, "doc": {}, "target": "0", "arguments": [("a", "b")], "resps": [[(-1.5, True)]],
        "filtered_resps": [(-1.5, True)], "filter": "none", "metrics": ["acc"], "doc_hash": "", "prompt_hash": "",
        "target_hash": "", "acc": 1.0,
    }  # fmt: skip
    tracker.save_results_aggregated({"results": {}}, {"boolq": [sample]})
    tracker.save_results_samples("boolq", [sample])
    export("lm-eval", folder, tmp_path / "ours")
    theirs, ours = ([str(f) for f in sorted((tmp_path / who).rglob("*.json*"))] for who in ("theirs", "ours"))
    for names in (theirs, ours):
        assert utils.get_results_filenames(names) and utils.get_sample_results_filenames(names)
    tasks = {utils.get_file_task_name(name.rsplit("/", 1)[1]) for name in utils.get_sample_results_filenames(ours)}
    assert tasks == set(TASKS)
    found = [next((tmp_path / who).rglob("samples_boolq*")) for who in ("theirs", "ours")]
    rows = [json.loads(file.read_text().splitlines()[0]) for file in found]
    assert rows[0].keys() - rows[1].keys() == {"prompt_hash", "target_hash"} and rows[1].keys() <= rows[0].keys()
    assert [type(row["resps"]) for row in rows] == [list, list]


def test_a_record_becomes_one_file_of_the_datastore_under_a_name_that_stays(folder, tmp_path):
    for _ in range(2):
        assert export("every-eval-ever", folder, tmp_path / "out").exit_code == 0
    files = sorted((tmp_path / "out").rglob("*.json"))
    assert [f.relative_to(tmp_path / "out").parts[:4] for f in files] == [
        ("data", "commonsense", "HuggingFaceTB", "smollm2-135m--lora--s0"),
        ("data", "commonsense", "org", "name--lora--s1"),
    ]
    told = json.loads(files[0].read_text())
    scores = {e["evaluation_name"]: e["score_details"] for e in told["evaluation_results"]}
    assert scores["piqa"]["uncertainty"] == {"num_samples": 2, "standard_error": {"value": 0.5, "method": "analytic"}}
    assert scores["boolq"]["score"] == 0.5 and "standard_error" not in scores["boolq"]["uncertainty"]


def test_every_eval_ever_s_own_validator_passes_made_up_and_committed_records(folder, tmp_path):
    schema = pytest.importorskip("every_eval_ever.schema", reason="every-eval-ever needs Python 3.12")
    assert schema.get_schema_version() == exports.SCHEMA_VERSION
    for records in (folder, RECORDS):
        assert export("every-eval-ever", records, tmp_path / "out").exit_code == 0
    files = [str(f.relative_to(tmp_path / "out")) for f in (tmp_path / "out").rglob("*.json")]
    command = [sys.executable, "-m", "every_eval_ever.validator.validate", *files]
    ran = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True)
    assert ran.returncode == 0 and f"{len(files)} passed, 0 warning-only, 0 failed" in ran.stdout, ran.stdout[-2000:]


@pytest.mark.parametrize("what", exports.FOLDERS)
def test_what_cannot_be_exported_is_refused_with_the_way_out(what, tmp_path, folder):
    Store(tmp_path / "failed").save(make_failed("dora"))
    none = export(what, tmp_path / "failed", tmp_path / "out")
    assert none.exit_code == 2 and "no finished record with scores" in none.output + none.stderr
    (tmp_path / "file").write_text("")
    there = export(what, folder, tmp_path / "file")
    assert there.exit_code == 2 and "is a file" in there.output + there.stderr


def test_names_of_a_record_from_elsewhere_stay_inside_the_folder(tmp_path):
    foreign = dataclasses.replace(
        record(suite="../../up", model="../x", tasks=("../boolq",)), scores={"../boolq": CHOSEN}
    )
    for what in exports.FOLDERS:
        files = exports.write(what, [foreign], tmp_path / "out")
        assert all(file.resolve().is_relative_to(tmp_path / "out") for file in files)
