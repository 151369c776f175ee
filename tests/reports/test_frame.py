"""Frames hold what the records hold: every row says whose it is, and what was not measured is missing."""

from __future__ import annotations

import dataclasses
import json
from functools import partial

import pandas as pd
import pytest
from synthetic_records import make_failed, make_record
from typer.testing import CliRunner

from reports import frame
from reports.__main__ import app
from results.pack import write_pack
from results.store import RECORDS, Store
from results.table import inert


@pytest.fixture(scope="module")
def measured():
    """LoRA with two seeds, LoRA-SMoE with a router in one block, DoRA that failed."""
    smoe = make_record("lora-smoe", layers=2, count=4)
    block = "model.layers.1.mlp.up_proj"
    router = {"piqa": {block: {"load": [0.25, 0.75], "entropy": 0.8, "dead": 0}}}
    smoe = dataclasses.replace(smoe, facts={**smoe.facts, "router": router}, contributed=True)
    return [*(make_record("lora", seed, layers=2, count=4) for seed in (0, 1)), smoe, make_failed("dora")]


@pytest.fixture(scope="module")
def folder(measured, tmp_path_factory):
    """Records in a folder, in one below it, and in a pack."""
    root = tmp_path_factory.mktemp("records")
    for record, place in zip(measured, (root, root / "more" / "seeds", root / "smoe", root), strict=True):
        Store(place).save(record)
    (path,) = (root / "smoe").glob("*.json")
    write_pack({path.stem: json.loads(path.read_text())}, root / "packed" / "all.jsonl.xz")
    path.unlink()
    (root / "notes.json").write_text("{}")
    return root


def test_folders_and_packs_are_searched_through(folder, measured):
    runs = frame.records(folder)
    assert sorted(runs["key"]) == sorted(record.key for record in measured)
    assert dict(zip(runs["method"] + runs["seed"].astype("string"), runs["folder"], strict=True)) == {
        "dora0": ".", "lora0": ".", "lora1": "more/seeds", "lora-smoe0": "packed",
    }  # fmt: skip
    assert runs.set_index("method")["contributed"]["lora-smoe"] and runs["contributed"].sum() == 1


def test_a_record_has_its_spec_metrics_scores_and_environment_in_columns(folder, measured):
    runs = frame.records(folder).set_index(["method", "seed"])
    record, row = measured[1], runs.loc[("lora", 1)]
    assert row["hyperparameters.r"] == 8 and row["tasks"].split() == list(record.spec.tasks)
    assert row["score.piqa"] == record.scores["piqa"].value and row["environment.versions.peft"] == "0.21.2"
    assert row["trainable_params"] == record.parameters.trainable
    assert row["macro_accuracy"] == pytest.approx(sum(s.value for s in record.scores.values()) / 8)


def test_what_was_not_measured_is_missing_and_not_zero(folder):
    failed = frame.records(folder).set_index("method").loc["dora"]
    assert failed["status"] == "failed" and "impossible" in failed["error"]
    assert failed[["macro_accuracy", "trainable_params", "train_seconds", "score.piqa"]].isna().all()
    assert "dora" not in set(frame.outcomes(folder)["method"])


def test_outcomes_average_to_the_scores(folder, measured):
    answers = frame.outcomes(folder)
    assert len(answers) == 3 * 8 * 4 and answers["outcome"].dtype == "Float64"
    means = answers.groupby(["key", "task"])["outcome"].mean()
    for record in measured[:3]:
        for task, score in record.scores.items():
            assert means[record.key, task] == pytest.approx(score.value)
    pairs = answers.pivot_table(index=["task", "document"], columns=["method", "seed"], values="outcome")
    assert pairs.shape == (32, 3) and not pairs.isna().any().any()


def test_likelihoods_of_choices_stand_with_their_document(tmp_path):
    record = make_record("lora", layers=1, count=2, tasks=("piqa",))
    score = dataclasses.replace(
        record.scores["piqa"], loglikelihoods=((-1.0, -2.0), (-3.0, -4.0)), choice_bytes=((1, 2), (3, 4)), gold=(0, 1)
    )
    Store(tmp_path).save(dataclasses.replace(record, scores={"piqa": score}))
    answers = frame.outcomes(tmp_path)
    assert answers["loglikelihoods"].tolist() == [[-1.0, -2.0], [-3.0, -4.0]] and answers["gold"].tolist() == [0, 1]
    assert answers["choice_bytes"].tolist() == [[1, 2], [3, 4]] and answers["answer"].isna().all()


def test_blocks_have_layer_projection_experts_sensitivity_and_router(folder, measured):
    layers = frame.blocks(folder)
    smoe = measured[2]
    assert set(layers["method"]) == {"lora-smoe"} and len(layers) == 14
    assert layers.groupby("layer").size().tolist() == [7, 7] and "up_proj" in set(layers["projection"])
    row = layers.set_index("block").loc["model.layers.1.mlp.up_proj"]
    assert row["experts"] == smoe.facts["experts"][row.name]
    assert row["sensitivity.boolq"] == smoe.facts["sensitivity"]["boolq"][row.name]
    assert row["router_load.piqa"] == [0.25, 0.75] and row["router_entropy.piqa"] == 0.8
    assert layers["router_entropy.piqa"].notna().sum() == 1


def test_losses_have_a_row_a_step(folder, measured):
    steps = frame.losses(folder)
    own = steps[steps["key"] == measured[0].key]
    assert own["step"].tolist() == list(range(1, 41)) and own["loss"].tolist() == list(measured[0].losses)


@pytest.mark.parametrize("make", frame.FRAMES.values(), ids=list(frame.FRAMES))
def test_a_folder_without_records_gives_an_empty_frame_and_no_folder_an_error(make, tmp_path):
    empty = make(tmp_path)
    assert empty.empty and set(frame.IDENTITY) <= set(empty.columns)
    with pytest.raises(NotADirectoryError, match="nowhere"):
        make(tmp_path / "nowhere")


@pytest.mark.parametrize("what", frame.FRAMES)
@pytest.mark.parametrize("ending", frame.ENDINGS)
def test_what_is_exported_is_what_the_frame_holds(what, ending, folder, tmp_path):
    file = tmp_path / "new" / f"{what}{ending}"
    result = CliRunner().invoke(app, ["export", "--what", what, "--records", str(folder), "--to", str(file)])
    assert result.exit_code == 0, result.output
    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".json": partial(pd.read_json, precise_float=True)}
    back, made = readers[ending](file), frame.FRAMES[what](folder)
    assert list(back.columns) == list(made.columns) and len(back) == len(made)
    assert f"{len(made):,} rows, {made.shape[1]} columns" in result.output
    for name in made.columns:
        if made[name].dtype in ("Float64", "Int64"):
            expected, found = (column.astype("Float64").tolist() for column in (made[name], back[name]))
            assert [None if a is pd.NA else a for a in found] == [None if a is pd.NA else a for a in expected]
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_another_ending_is_refused_before_any_record_is_read_and_the_known_ones_are_named(tmp_path):
    for name in ("all.xlsx", "all"):
        result = CliRunner().invoke(app, ["export", "--to", str(tmp_path / name)])
        assert result.exit_code == 2 and ".csv, .parquet, .json" in result.output and not list(tmp_path.iterdir())
    nowhere = CliRunner().invoke(app, ["export", "--records", str(tmp_path / "x"), "--to", str(tmp_path / "a.csv")])
    assert nowhere.exit_code == 2 and "no folder" in nowhere.output


def test_the_committed_records_have_frames():
    runs = frame.records(RECORDS)
    assert len(runs) == len(Store(RECORDS).all()) and not runs["macro_accuracy"][runs["status"] == "done"].isna().any()


def test_csv_has_whole_numbers_without_a_point_and_six_digits_where_asked():
    table = pd.DataFrame({"a": [1.0, 1 / 3, None], "b": [True, None, "x, y"], "c": [[1, 2], {"d": 3}, 2]}, dtype=object)
    assert frame.csv_text(table, digits=6).splitlines() == [
        "a,b,c", '1,True,"[1, 2]"', '0.333333,,"{""d"": 3}"', ',"x, y",2',
    ]  # fmt: skip
    assert frame.csv_text(table).splitlines()[2].startswith("0.3333333333333333,")


@pytest.mark.parametrize("text", ["=1+1", "@x", "+cmd", "-cmd", " =1", "\t=1"])
def test_a_cell_that_a_spreadsheet_would_run_is_inert(text):
    assert inert(text) == f"'{text}" and inert("-1.5") == "-1.5"
    assert frame.csv_text(pd.DataFrame({text: [text]})).count("'") == 2
